// Why it exists: one process holds many agents: it stands at sutazaid's socket, begins and ends instances as it is told,
// and outlives a sutazaid that is killed. What it must do is in docs/reference/sutazaid-socket.md, "Hosting workers".

import { mkdirSync, readFileSync, readdirSync, rmSync, writeSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { Instance } from "./instance.mjs";

const ORPHAN_MS = 30_000;
const LINE_BYTES_MAX = 256 * 1024;
const REGISTER_ID = 1;
const began = performance.now();

const { SUTAZAI_SOCKET, SUTAZAI_BROKER, SUTAZAI_WORKER } = process.env;
if (!SUTAZAI_SOCKET || !SUTAZAI_BROKER || !SUTAZAI_WORKER) {
  writeSync(2, "SUTAZAI_SOCKET, SUTAZAI_BROKER and SUTAZAI_WORKER are not set: this process is started by sutazaid\n");
  process.exit(2);
}
process.title = `sutazai: worker ${SUTAZAI_WORKER} (node)`;
process.env.SUTAZAI_SCRATCH = makeScratch();

/** Make this process's folder, named by its pid as all are, and clear away those of this worker that were killed. */
function makeScratch() {
  const own = `${SUTAZAI_WORKER}.`;
  for (const root of [os.tmpdir(), "/tmp"]) {
    try {
      for (const name of readdirSync(root)) {
        if (name.startsWith(own) && isDead(Number(name.slice(own.length)))) rmSync(path.join(root, name), { recursive: true });
      }
    } catch {
      // somebody else's
    }
    try {
      const folder = path.join(root, own + process.pid);
      mkdirSync(folder, { mode: 0o700, recursive: true });
      return folder;
    } catch {
      // the fleet's folder cannot be reached by this user
    }
  }
  return "/tmp";
}

function isDead(pid) {
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return error.code === "ESRCH";
  }
}

/** @type {Map<string, Instance>} */
const held = new Map();
let link = null;
let leaving = false;

/** Write one JSON line to the log. */
function log(line) {
  try {
    writeSync(1, `${JSON.stringify({ ts: new Date().toISOString(), worker: SUTAZAI_WORKER, ...line })}\n`);
  } catch {
    // a full disk must not stop the work
  }
}

function say(message) {
  if (link && !link.destroyed) link.write(`${JSON.stringify(message)}\n`);
}

function hear(message) {
  if (message.push === "host") host(message);
  else if (message.push === "end" && message.grace_ms > 0 && held.has(message.ticket)) held.get(message.ticket).drain();
  else if (message.push === "end") end(message.ticket);
  else if (message.ok === false && message.id === REGISTER_ID) leave(1, `sutazaid refused: ${message.error}`);
}

function end(ticket) {
  const instance = held.get(ticket);
  if (instance) instance.stop();
  else say({ op: "ended", ticket, reason: "ok", status: 0, why: "it is not here" });
}

function host(order) {
  const { ticket } = order;
  if (held.has(ticket)) return;
  try {
    if (leaving) throw new Error("this worker is leaving");
    const ended = (how) => {
      held.delete(ticket);
      say({ op: "ended", ticket, ...how });
      if (leaving && held.size === 0) leave(0, "all instances have ended");
    };
    held.set(ticket, new Instance(order, { broker: SUTAZAI_BROKER, ended, log }));
    say({ op: "hosted", ticket, pid: process.pid });
  } catch (error) {
    held.delete(ticket);
    say({ op: "fork-failed", ticket, error: error.message });
  }
}

/** Whether the fleet's guard lives: its file holds pid and start ticks. */
function guardLives() {
  try {
    const [pid, ticks] = readFileSync(path.join(path.dirname(SUTAZAI_SOCKET), "guard.pid"), "utf8").split(/\s+/);
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] !== "Z" && (!ticks || fields[19] === ticks);
  } catch {
    return false;
  }
}

function threads() {
  try {
    return Number(/^Threads:\s*(\d+)/m.exec(readFileSync("/proc/self/status", "utf8"))[1]);
  } catch {
    return 1;
  }
}

function connect(silentSince, wait) {
  const socket = net.connect(SUTAZAI_SOCKET);
  let connectedAt = 0;
  let buffer = "";
  socket.setEncoding("utf8");
  socket.on("connect", () => {
    connectedAt = Date.now();
    link = socket;
    say({ op: "hello", process: SUTAZAI_WORKER });
    const facts = { pid: process.pid, pre_ms: Math.round(performance.now() - began), threads: threads(), hosts: true };
    say({ op: "register", id: REGISTER_ID, worker: SUTAZAI_WORKER, ...facts });
    say({ op: "hosting", tickets: [...held].map(([ticket, instance]) => ({ ticket, agent: instance.order.agent })) });
  });
  socket.on("data", (data) => {
    buffer += data;
    for (let at; (at = buffer.indexOf("\n")) >= 0; ) {
      const line = buffer.slice(0, at);
      buffer = buffer.slice(at + 1);
      try {
        hear(JSON.parse(line));
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
        log({ level: "error", event: "sutazaid's line is no JSON", error: error.message });
        socket.destroy();
      }
    }
    if (buffer.length > LINE_BYTES_MAX) socket.destroy();
  });
  socket.on("error", () => {});
  socket.on("close", () => {
    if (link === socket) link = null;
    const since = connectedAt ? Date.now() : silentSince;
    if (Date.now() - since > ORPHAN_MS && !guardLives()) return leave(0, "the fleet is gone");
    const pause = connectedAt ? 20 : wait;
    setTimeout(() => connect(since, Math.min(500, pause * 2)), pause * (0.5 + Math.random() / 2));
  });
}

function leave(code, why) {
  log({ level: "info", event: "leaving", why });
  if (process.env.SUTAZAI_SCRATCH.endsWith(`.${process.pid}`)) rmSync(process.env.SUTAZAI_SCRATCH, { recursive: true, force: true });
  process.exit(code);
}

for (const name of ["SIGTERM", "SIGINT"]) {
  process.on(name, () => {
    leaving = true;
    if (held.size === 0) leave(0, name);
    for (const instance of held.values()) instance.drain();
  });
}
process.on("SIGHUP", () => {});

connect(Date.now(), 20);
