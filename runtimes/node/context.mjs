// Why it exists: a skill gets all that it may touch of the fleet from one object. What a turn says here is kept until it
// commits: calls, emitted tasks and state are stored together or not at all.

import { createHash } from "node:crypto";
import { mkdirSync, writeSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { threadId } from "node:worker_threads";
import { NonRetryableError, Result } from "./sutazai.mjs";

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"; // Crockford's base 32: no i, l, o, u
const HASH_DIGITS = 26;
const HASH_BYTES = 17;
const PRIORITY_LOWEST = 9;
const EMITS_MAX = 1_000;
const STATE_BYTES_MAX = 1024 * 1024;
const INPUT_BYTES_MAX = 1024 * 1024;
const PROGRESS_CHARACTERS_MAX = 500;
const FACTS_TIMEOUT_MS = 10_000;

/**
 * Name a task that a turn emits: it depends on nothing but the arguments, so a turn that is executed twice names the
 * same children. The vectors in tests/conformance/vectors.json hold for every language.
 * @param {string} parent id of the emitting task
 * @param {string} site place in the code, stable over retries
 * @param {number} index how many tasks this place has emitted before
 */
export function childTaskId(parent, site, index) {
  const digest = createHash("sha256").update(`${parent}\0${site}\0${index}`).digest();
  let number = BigInt(`0x${digest.subarray(0, HASH_BYTES).toString("hex")}`) >> 6n;
  let digits = "";
  for (let n = 0; n < HASH_DIGITS; n++, number /= 32n) digits = ALPHABET[Number(number % 32n)] + digits;
  return `t_${digits}`;
}

/**
 * What may be said of a call: priority, deadline_s, delay_s, session, key, idempotency_key; fallback (`{value}`, or
 * `{agent, skill, input, deadline_ms}`) and when_open (`refuse`), as the protocol says them.
 */
export class Call {
  constructor(fields) {
    Object.assign(this, fields);
  }
}

/** What a skill may touch of the fleet. */
export class Context {
  #turn;
  #ask;
  #report;
  #counts = new Map();
  #emitted = new Map();
  #before;
  #state;
  #version;

  /**
   * @param {object} turn as the broker sent it
   * @param {{ask: (what: string, body: object) => Promise<any>, report: (progress: object) => void,
   *   signal: AbortSignal, settings: object}} around
   */
  constructor(turn, around) {
    this.#turn = turn;
    this.#ask = around.ask;
    this.#report = around.report;
    this.settings = around.settings;
    /** Aborts when the turn is to be given up: cancelled, past its deadline, or lost. */
    this.signal = around.signal;
    const { id, agent, skill, session, attempt, parent, priority, step } = turn.task;
    /** The task: its id is the key for effects outside of the fleet. */
    this.task = Object.freeze({ id, agent, skill, session: session ?? "", attempt, parent: parent ?? "", priority, step: step ?? "" });
    /** How the calls ended that the last turn waited for. @type {Result[]} */
    this.results = (turn.task.results ?? []).map((entry) => new Result(entry));
    this.#state = session ? (turn.state ?? {}) : null;
    this.#before = JSON.stringify(this.#state);
    this.#version = turn.state_version ?? 0;
    this.deadlineAt = Date.now() + turn.deadline_left_ms;
  }

  /** The session's state: change it in place; it is stored when the turn commits. */
  get state() {
    if (this.#state === null) throw new NonRetryableError("this task has no session, so it has no state: submit it with a session");
    return this.#state;
  }

  /** Milliseconds until the task expires. */
  get deadlineLeftMs() {
    return Math.max(0, this.deadlineAt - Date.now());
  }

  /** A private folder, gone when the agent hibernates. */
  get scratch() {
    const folder = path.join(process.env.SUTAZAI_SCRATCH, String(threadId));
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    return folder;
  }

  /** Write one JSON line to the worker's log. */
  log(text, fields = {}) {
    const { agent, id, skill } = this.task;
    const line = { ts: new Date().toISOString(), level: "info", agent, task: id, skill, event: text, ...fields };
    writeSync(1, `${JSON.stringify(line)}\n`);
  }

  /** Say how far the turn is: a fraction from 0 to 1, and what it does now. */
  progress(fraction, text = "") {
    const bounded = Math.min(1, Math.max(0, Number(fraction) || 0));
    this.#report({ fraction: bounded, text: String(text).slice(0, PROGRESS_CHARACTERS_MAX).toWellFormed?.() ?? String(text) });
  }

  /** Name a task for another agent, to put into a `wait`; nothing is sent before the turn commits. */
  call(agent, skill, input = {}, options = {}) {
    const text = JSON.stringify(input);
    if (typeof input !== "object" || input === null || Array.isArray(input)) throw new NonRetryableError("the input of a call is an object");
    if (Buffer.byteLength(text) > INPUT_BYTES_MAX) throw new NonRetryableError(`the input of a call has more than ${INPUT_BYTES_MAX} bytes`);
    const priority = options.priority ?? this.task.priority;
    if (!Number.isInteger(priority) || priority < 0 || priority > PRIORITY_LOWEST) throw new NonRetryableError(`a priority is 0 to ${PRIORITY_LOWEST}`);
    return new Call({
      id: this.#childId(agent, skill, options.key ?? ""), agent, skill, input: JSON.parse(text), priority,
      session: options.session || null, delay_ms: Math.round((options.delay_s ?? 0) * 1_000),
      deadline_ms: Math.round((options.deadline_s ?? 0) * 1_000) || null, idempotency_key: options.idempotency_key || null,
      ...(options.fallback === undefined ? {} : { fallback: options.fallback }),
      ...(options.when_open ? { when_open: options.when_open } : {}),
    });
  }

  /** Hand a task to another agent without waiting for it. @returns {string} its id */
  emit(agent, skill, input = {}, options = {}) {
    const call = this.call(agent, skill, input, options);
    if (this.#emitted.size >= EMITS_MAX) throw new NonRetryableError(`a turn emits at most ${EMITS_MAX} tasks`);
    this.#emitted.set(call.id, call);
    return call.id;
  }

  /** Store the state and the emitted tasks now; the skill goes on. */
  async checkpoint() {
    void this.state; // without a session nothing could tell a later execution where to go on
    const { state_version } = await this.#ask("checkpoint", { state: this.changedState(), emits: this.emits([]) });
    this.#version = state_version;
    this.#before = JSON.stringify(this.#state);
    this.#emitted.clear();
    this.#counts.clear();
  }

  /** Do something to the fleet that the agent's manifest names in `powers`. */
  act(action, args = {}) {
    return this.#ask("act", { action, arguments: args });
  }

  /** Tasks that this agent was asked for (`do`: list, tree, cancel). */
  own(what, fields = {}) {
    return this.#ask("own", { do: what, ...fields });
  }

  /** Read a fact of the fleet: a path of the control API, like `/pools`. @returns {Promise<any>} its JSON */
  fact(route) {
    const socketPath = path.join(path.dirname(process.env.SUTAZAI_SOCKET), "control.sock");
    return new Promise((resolve, reject) => {
      const asked = http.get({ socketPath, path: route, timeout: FACTS_TIMEOUT_MS, signal: this.signal }, (answer) => {
        let text = "";
        answer.setEncoding("utf8");
        answer.on("data", (piece) => (text += piece));
        answer.on("error", reject);
        answer.on("end", () => {
          if (answer.statusCode !== 200) return reject(new Error(`${route} answered ${answer.statusCode}: ${text.slice(0, 300)}`));
          try {
            resolve(JSON.parse(text));
          } catch (error) {
            reject(new Error(`${route} is no JSON: ${error.message}`));
          }
        });
      });
      asked.on("timeout", () => asked.destroy(new Error(`${route} did not answer in ${FACTS_TIMEOUT_MS} ms`)));
      asked.on("error", reject);
    });
  }

  // For thread.mjs

  /** What the turn emits, the calls of a wait among it. */
  emits(calls) {
    const all = new Map([...this.#emitted, ...calls.map((call) => [call.id, call])]);
    if (all.size > EMITS_MAX) throw new NonRetryableError(`a turn emits at most ${EMITS_MAX} tasks, not ${all.size}: split the work`);
    return [...all.values()].map((call) => ({ ...call }));
  }

  /** The state when it is another than before, else null. */
  changedState() {
    if (this.#state === null) return null;
    const text = JSON.stringify(this.#state);
    if (Buffer.byteLength(text) > STATE_BYTES_MAX) throw new NonRetryableError(`the state has more than ${STATE_BYTES_MAX} bytes`);
    return text === this.#before ? null : JSON.parse(text);
  }

  #childId(agent, skill, key) {
    const marker = this.results[0]?.task ?? "";
    // Its own agent too: one that took the task over as a fallback names other children than who had it before.
    const site = [this.task.agent, this.task.step, marker, this.#version, agent, skill, key].join("\x1f");
    const index = this.#counts.get(site) ?? 0;
    this.#counts.set(site, index + 1);
    return childTaskId(this.task.id, site, index);
  }
}
