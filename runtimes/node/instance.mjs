// Why it exists: one instance of an agent: its connection to the broker stands here, in a thread that never runs the
// agent's code, so that heartbeats go out and a cancellation is heard whatever that code does. The code runs in a
// worker thread of its own (thread.mjs); one that does not give in is terminated, and a new one takes its place.

import { rmSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { download, reference, RESULT_IN_MESSAGE_BYTES_MAX, upload } from "./parts.mjs";
import { Connection, FRAME_BYTES_MAX, RefusedError, UnavailableError } from "./wire.mjs";

const PATIENCE_MS = 60_000;
const COMMIT_TIMEOUT_MS = 20_000;
const COMMIT_GRACE_MS = 2_000;
const FULL_PAUSE_MS = 500;
const STOP_MS = 1_000; // the broker ends an instance that has not answered a cancellation in 2 s
const PROGRESS_GAP_MS = 250;
const KEEP_MS_MIN = 50;
const ACT_PATIENCE_MS = 30_000;
const ACT_WAIT_MS = 7_000;
const ROOM_BYTES = 1_024;
const HEAP_SHARE = 0.75; // of an instance's memory; the rest is for buffers and the thread itself
const MIB = 1024 * 1024;
const LOADED_BYTES_MAX = 64 * MIB; // of results in files that one turn gets
const TRY_AGAIN = new Set(["storage-full", "queue-full", "upload-missing", "unavailable"]);

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** An agent in memory. */
export class Instance {
  #connection = null;
  #connecting = null;
  #thread = null;
  #spoken = new Map(); // questions of the thread that are being answered
  #turn = null;
  #heartbeatMs = 2_500;
  #idleTimer = null;
  #draining = false;
  #over = false;

  /**
   * @param {{ticket: string, agent: string, token: string, module: string, memory_bytes: number, keep_ms: number,
   *   settings: object}} order
   * @param {{broker: string, ended: (end: object) => void, log: (line: object) => void}} place
   */
  constructor(order, place) {
    this.order = order;
    this.place = place;
    this.#startThread();
    this.#reconnect();
  }

  // The agent's own thread

  #startThread() {
    const megabytes = Math.max(16, Math.floor((this.order.memory_bytes * HEAP_SHARE) / MIB));
    const thread = new Worker(new URL("./thread.mjs", import.meta.url), {
      workerData: { agent: this.order.agent, module: this.order.module, settings: this.order.settings },
      name: this.order.agent,
      resourceLimits: this.order.memory_bytes ? { maxOldGenerationSizeMb: megabytes } : {},
    });
    this.#thread = thread;
    thread.on("message", (message) => this.#thread === thread && this.#said(message));
    thread.on("error", (error) => this.#thread === thread && this.#broke(error));
    thread.on("exit", (code) => {
      rmSync(`${process.env.SUTAZAI_SCRATCH}/${thread.threadIdOnce}`, { recursive: true, force: true });
      if (this.#thread === thread) this.#broke(new Error(`the skill ended its thread with ${code}; return or throw`));
    });
    thread.threadIdOnce = thread.threadId;
  }

  #broke(error) {
    const thread = this.#thread;
    this.#thread = null;
    thread?.terminate();
    if (this.#over) return;
    if (error.code === "ERR_WORKER_OUT_OF_MEMORY") {
      this.#finish("oom", 1, `${this.order.agent} went over its heap: ${error.message}`);
      return;
    }
    this.place.log({ level: "error", agent: this.order.agent, event: "the agent's thread has ended", error: error.message });
    this.#startThread();
    if (this.#turn && !this.#turn.settling) this.#settle({ outcome: "failed", error: failure("skill-failed", error.message, true, error.stack) });
  }

  #said(message) {
    const turn = this.#turn;
    if (!turn || turn.settling || message.fence !== turn.fence) return; // of a turn that was given up
    if (message.t === "done") this.#settle(message.commit);
    else if (message.t === "progress") this.#progress(turn, message.progress);
    else if (message.t === "ask") this.#answer(turn, message);
  }

  async #answer(turn, { id, what, body }) {
    const reply = (answer) => this.#turn === turn && this.#thread?.postMessage({ t: "answer", id, ...answer });
    try {
      if (what === "checkpoint") {
        const done = await this.#commit(turn, { outcome: "checkpoint", ...body }, false);
        if (done.status !== "leased") return this.#abort(turn, `its checkpoint was refused: the task is ${done.status}`);
        turn.state_version = done.state_version ?? turn.state_version;
        return reply({ value: { state_version: turn.state_version } });
      }
      const answer = await this.#ask(turn, { t: what, ...body });
      return reply({ value: what === "act" ? answer.done : answer.tasks });
    } catch (error) {
      if (error.code === "fenced") return this.#abort(turn, "lease");
      return reply({ error: { code: error.code ?? "unavailable", message: error.message } });
    }
  }

  async #ask(turn, message) {
    const until = Math.min(turn.deadlineAt, Date.now() + ACT_PATIENCE_MS);
    for (let wait = 50; ; wait = Math.min(1_000, wait * 2)) {
      try {
        const connection = await this.#connected(until);
        return await connection.request({ ...message, task: turn.task.id, fence: turn.fence }, ACT_WAIT_MS);
      } catch (error) {
        const again = error instanceof UnavailableError || error.code === "unavailable";
        if (!again || Date.now() + wait > until) throw error;
        await sleep(wait);
      }
    }
  }

  // The broker

  #reconnect() {
    this.#connecting ??= this.#connect().finally(() => (this.#connecting = null));
    return this.#connecting;
  }

  async #connect() {
    const giveUpAt = Date.now() + PATIENCE_MS;
    for (let wait = 2; !this.#over; wait = Math.min(1_000, wait * 2)) {
      const turn = this.#turn;
      try {
        const { agent, ticket, token } = this.order;
        const held = turn && { task: turn.task.id, fence: turn.fence };
        let mine = null; // this connection, once it is welcomed
        const { connection, welcome } = await Connection.open(
          this.place.broker, { agent, ticket, token }, held,
          (message) => mine && this.#connection === mine && this.#heard(message),
          () => mine && this.#connection === mine && !this.#over && this.#reconnect(),
        );
        mine = connection;
        if (this.#over) return connection.close();
        this.#connection = connection;
        this.#heartbeatMs = welcome.heartbeat_ms ?? this.#heartbeatMs;
        if (this.#turn) this.#heartbeat(this.#turn);
        else this.#pull();
        return;
      } catch (error) {
        if (!(error instanceof UnavailableError || error instanceof RefusedError)) throw error;
        const until = this.#turn ? this.#turn.deadlineAt + COMMIT_GRACE_MS : giveUpAt;
        if (Date.now() + wait > until) return this.#finish("ok", 0, "the broker does not come back");
        await sleep(wait * (0.5 + Math.random() / 2));
      }
    }
  }

  async #connected(until) {
    while (!this.#connection || this.#connection.closed) {
      if (this.#over || Date.now() > until) throw new UnavailableError("the broker is away");
      await Promise.race([this.#reconnect(), sleep(Math.max(1, until - Date.now()))]);
    }
    return this.#connection;
  }

  #send(message) {
    try {
      this.#connection?.send(message);
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error; // it comes back, and says again what matters
    }
  }

  #heard(message) {
    const turn = this.#turn;
    const mine = turn && message.task === turn.task.id && message.fence === turn.fence;
    if (message.t === "turn") this.#begin(message);
    else if (message.t === "lease" && mine && message.cancel) this.#abort(turn, "cancelled");
    else if (message.t === "lease" && mine && !message.ok) this.#abort(turn, "lease");
    else if (message.t === "cancel" && mine) this.#abort(turn, "cancelled");
    else if (message.t === "cancel" && !turn) this.#pull();
    else if (message.t === "rest" && !turn) this.#hibernate();
    else if (message.t === "rest" && turn.settling) turn.restAfter = true;
    else if (message.t === "drain") this.drain();
  }

  #pull() {
    if (this.#draining) return this.#leave();
    this.#send({ t: "pull" });
    this.#restLater();
  }

  #restLater() {
    clearTimeout(this.#idleTimer);
    this.#idleTimer = setTimeout(() => this.#hibernate(), Math.max(KEEP_MS_MIN, this.order.keep_ms));
  }

  async #hibernate() {
    if (this.#turn || this.#over) return;
    try {
      const reply = await (await this.#connected(Date.now())).request({ t: "hibernate" }, COMMIT_TIMEOUT_MS);
      if (reply.t === "bye" && !this.#turn) return this.#finish("ok", 0, "");
    } catch (error) {
      if (!(error instanceof UnavailableError || error instanceof RefusedError)) throw error;
    }
    if (!this.#turn) this.#pull();
  }

  // A turn

  #begin(message) {
    clearTimeout(this.#idleTimer);
    const turn = { ...message, deadlineAt: Date.now() + message.deadline_left_ms, reason: "" };
    this.#turn = turn;
    turn.deadlineTimer = setTimeout(() => this.#abort(turn, "deadline"), Math.min(message.deadline_left_ms, 2 ** 31 - 1));
    turn.heartbeat = setInterval(() => this.#heartbeat(turn), this.#heartbeatMs);
    this.#load(turn, message).then((loaded) => {
      if (this.#turn === turn && !turn.reason) this.#thread.postMessage({ t: "turn", turn: loaded });
    });
  }

  /** Read the results that lie in files; one that cannot be had says why, like a failed one. */
  async #load(turn, message) {
    const results = message.task.results ?? [];
    if (!results.some((entry) => entry.result_ref)) return message;
    let room = LOADED_BYTES_MAX;
    const loaded = [];
    for (const entry of results) {
      const named = entry.result_ref;
      if (!named) {
        loaded.push(entry);
        continue;
      }
      room -= named.bytes;
      try {
        if (room < 0) throw new RefusedError("results-too-large", `the results in files are above ${LOADED_BYTES_MAX} bytes together`);
        loaded.push({ ...entry, result: await download((part) => this.#ask(turn, part), entry.task, named) });
      } catch (error) {
        loaded.push({ ...entry, error: failure(error.code ?? "unavailable", error.message, false) });
      }
    }
    return { ...message, task: { ...message.task, results: loaded } };
  }

  #heartbeat(turn) {
    turn.spokenAt = Date.now();
    this.#send({ t: "heartbeat", task: turn.task.id, fence: turn.fence, progress: turn.progress ?? null });
  }

  #progress(turn, progress) {
    turn.progress = progress;
    const wait = PROGRESS_GAP_MS - (Date.now() - (turn.spokenAt ?? 0));
    if (wait <= 0) this.#heartbeat(turn);
    else turn.progressTimer ??= setTimeout(() => {
      turn.progressTimer = null;
      if (this.#turn === turn) this.#heartbeat(turn);
    }, wait);
  }

  #abort(turn, reason) {
    if (this.#turn !== turn || turn.reason || turn.settling) return; // what is on its way the broker judges itself
    turn.reason = reason;
    this.#thread?.postMessage({ t: "abort", fence: turn.fence, reason });
    turn.stopTimer = setTimeout(() => {
      if (this.#turn !== turn || turn.settling) return;
      this.#replaceThread();
      this.#settle(null);
    }, STOP_MS);
  }

  #replaceThread() {
    const thread = this.#thread;
    this.#thread = null;
    thread?.terminate();
    this.#startThread();
  }

  /** The thread is through with its turn, or was made to be: commit what holds, and ask for the next. */
  async #settle(commit) {
    const turn = this.#turn;
    turn.settling = true;
    for (const timer of [turn.deadlineTimer, turn.stopTimer, turn.progressTimer]) clearTimeout(timer);
    if (turn.reason === "deadline") {
      commit = { outcome: "failed", error: failure("deadline", "the turn ran until its deadline", true) };
    } else if (turn.reason) {
      this.place.log({ level: "warning", agent: this.order.agent, task: turn.task.id, event: "a turn was given up", reason: turn.reason });
      commit = null;
    }
    if (commit?.leave) this.#draining = true; // the next wake imports the agent again: it may have been mended
    const pull = commit !== null && !this.#draining;
    let committed = false;
    if (commit) {
      try {
        await this.#commit(turn, commit, pull);
        committed = true;
      } catch (error) {
        const event = "a turn's result was not wanted any more";
        this.place.log({ level: "warning", agent: this.order.agent, task: turn.task.id, event, error: error.message });
      }
    }
    clearInterval(turn.heartbeat);
    if (this.#turn !== turn) return; // the next one came with the answer
    this.#turn = null;
    if (this.#over) return;
    if (turn.restAfter) this.#hibernate();
    else if (committed && pull) this.#restLater();
    else this.#pull();
  }

  /** Send a commit until it is answered, over as many connections as it takes, until the deadline. */
  async #commit(turn, commit, pull) {
    const text = commit.outcome === "result" ? Buffer.from(JSON.stringify(commit.result ?? null)) : Buffer.alloc(0);
    const large = text.length > RESULT_IN_MESSAGE_BYTES_MAX ? reference(text) : null;
    const message = {
      t: "commit", task: turn.task.id, fence: turn.fence, outcome: commit.outcome, result: large ? null : (commit.result ?? null),
      error: commit.error ?? null, wait: commit.wait ?? null, state: commit.state ?? null,
      state_version: turn.state_version ?? 0, emits: commit.emits ?? [], effects: [], pull,
      ...(large && { result_ref: large }),
    };
    const bytes = Buffer.byteLength(JSON.stringify(message));
    if (bytes > FRAME_BYTES_MAX - ROOM_BYTES) {
      const why = `result, state and emitted tasks have ${bytes} bytes together, more than a commit takes`;
      return this.#commit(turn, { outcome: "failed", error: failure("invalid-output", why, false) }, pull);
    }
    const until = turn.deadlineAt + COMMIT_GRACE_MS;
    for (;;) {
      try {
        return await this.#deliver(turn, message, large && text, until);
      } catch (error) {
        if (large && error.code === "invalid-input") {
          const failed = failure("invalid-output", `its result was not taken: ${error.message}`, false);
          return this.#commit(turn, { outcome: "failed", error: failed }, pull);
        }
        if (TRY_AGAIN.has(error.code) && Date.now() < until) await sleep(FULL_PAUSE_MS);
        else if (!(error instanceof UnavailableError) || Date.now() > until || this.#over) throw error;
      }
    }
  }

  /** Send a commit once; a large result is uploaded when the broker says that it has not got it. */
  async #deliver(turn, message, data, until) {
    const connection = await this.#connected(until);
    try {
      return await connection.request(message, COMMIT_TIMEOUT_MS);
    } catch (error) {
      if (error.code !== "upload-missing") throw error;
    }
    await upload(connection, { task: turn.task.id, fence: turn.fence }, data, message.result_ref);
    return connection.request(message, COMMIT_TIMEOUT_MS);
  }

  // The end

  /** Finish the turn, then leave. */
  drain() {
    this.#draining = true;
    if (!this.#turn) this.#leave();
  }

  /** End now: nothing is committed any more. */
  stop() {
    this.#finish("ok", 0, "it was asked to end");
  }

  async #leave() {
    if (this.#over || this.#turn) return;
    try {
      const connection = this.#connection;
      if (connection && !connection.closed) await connection.request({ t: "hibernate" }, COMMIT_GRACE_MS);
    } catch (error) {
      if (!(error instanceof UnavailableError || error instanceof RefusedError)) throw error;
    }
    if (!this.#turn) this.#finish("ok", 0, ""); // a turn that came meanwhile is done first
  }

  #finish(reason, status, why) {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#idleTimer);
    if (this.#turn) {
      for (const timer of [this.#turn.deadlineTimer, this.#turn.stopTimer, this.#turn.progressTimer]) clearTimeout(timer);
      clearInterval(this.#turn.heartbeat);
    }
    this.#connection?.close();
    const thread = this.#thread;
    this.#thread = null;
    Promise.resolve(thread?.terminate()).then(() => this.place.ended({ reason, status, why }));
  }
}

/** Write what went wrong as a commit's `error`. */
export function failure(code, message, retryable, trace = "") {
  return { code, message: String(message).slice(0, 2_000), retryable, detail: trace ? { traceback: String(trace).slice(0, 4_000) } : null };
}
