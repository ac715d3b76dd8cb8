// Why it exists: the code of an agent runs in a thread of its own; whatever it does (returns, throws, hangs, exits), its
// turn ends in one commit, which instance.mjs makes. Between the two there are only messages.

import { parentPort, workerData } from "node:worker_threads";
import { Context } from "./context.mjs";
import { load } from "./load.mjs";
import { validate } from "./schema.mjs";
import { NonRetryableError, Wait } from "./sutazai.mjs";

const RESULT_BYTES_MAX = 1024 * 1024 * 1024; // the agent's own limit is the broker's to hold
const CARRY_BYTES_MAX = 1024 * 1024;

let running = null;
const questions = new Map();
let next = 1;

class TurnError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
    this.retryable = false;
  }
}

const loading = load(workerData.module).then(
  (definition) => {
    if (definition.name !== workerData.agent) throw new TurnError("bad-config", `its code calls itself ${definition.name}`);
    return definition;
  },
);
loading.catch(() => {}); // each turn tells it

parentPort.on("message", (message) => {
  if (message.t === "turn") work(message.turn);
  else if (message.t === "abort" && running?.fence === message.fence) running.controller.abort(new Error(message.reason));
  else if (message.t === "answer") {
    const question = questions.get(message.id);
    questions.delete(message.id);
    if (message.error) question?.reject(Object.assign(new NonRetryableError(message.error.message), { code: message.error.code }));
    else question?.resolve(message.value);
  }
});

async function work(turn) {
  const { fence } = turn;
  const controller = new AbortController();
  running = { fence, controller };
  questions.clear();
  const ask = (what, body) =>
    new Promise((resolve, reject) => {
      const id = next++;
      questions.set(id, { resolve, reject });
      parentPort.postMessage({ t: "ask", fence, id, what, body });
    });
  const report = (progress) => parentPort.postMessage({ t: "progress", fence, progress });
  const { settings } = workerData;
  const ctx = new Context(turn, { ask, report, signal: controller.signal, settings });
  let commit;
  try {
    commit = await execute(turn, ctx);
  } catch (error) {
    commit = { outcome: "failed", error: describe(error), leave: error?.leave };
  }
  running = null;
  parentPort.postMessage({ t: "done", fence, commit });
}

async function execute(turn, ctx) {
  let definition;
  try {
    definition = await loading;
  } catch (error) {
    throw Object.assign(error instanceof Error ? error : new Error(String(error)), { leave: true });
  }
  const { task } = turn;
  const skill = Object.hasOwn(definition.skills, task.skill) ? definition.skills[task.skill] : undefined;
  if (!skill) throw new TurnError("not-found", `${definition.name} has no skill ${task.skill}; it has ${Object.keys(definition.skills).join(", ")}`);
  let value;
  if (task.step) value = await step(definition, task.step, { results: ctx.results, carry: task.carry }, ctx);
  else value = await skill.run(input(skill, task.input), ctx);
  while (value instanceof Wait && value.calls.length === 0) value = await step(definition, value.then, { results: [], carry: value.carry }, ctx);
  if (value instanceof Wait) return waiting(definition, value, ctx);
  return { outcome: "result", result: output(task.skill, skill, value), state: ctx.changedState(), emits: ctx.emits([]) };
}

function step(definition, name, came, ctx) {
  if (!Object.hasOwn(definition.steps ?? {}, name)) throw new NonRetryableError(`${definition.name} has no step ${name}`);
  return definition.steps[name](came, ctx);
}

function input(skill, given) {
  const { value, mistakes } = validate(skill.input ?? { type: "object" }, given ?? {});
  if (mistakes.length) throw new TurnError("invalid-input", `the input does not fit: ${mistakes.join("; ")}`);
  return value;
}

function output(name, skill, value) {
  let text;
  try {
    text = JSON.stringify(value ?? null) ?? "null";
  } catch (error) {
    throw new TurnError("invalid-output", `${name} returned what is no JSON: ${error.message}`);
  }
  const bytes = Buffer.byteLength(text);
  if (bytes > RESULT_BYTES_MAX) throw new TurnError("invalid-output", `${name} returned ${bytes} bytes; the limit is ${RESULT_BYTES_MAX}: return a file's path`);
  const result = JSON.parse(text);
  const { mistakes } = skill.output ? validate(skill.output, result) : { mistakes: [] };
  if (mistakes.length) throw new TurnError("invalid-output", `${name} returned what its schema does not allow: ${mistakes.join("; ")}`);
  return result;
}

function waiting(definition, value, ctx) {
  if (!Object.hasOwn(definition.steps ?? {}, value.then)) throw new NonRetryableError(`${definition.name} has no step ${value.then}`);
  const carry = JSON.stringify(value.carry ?? {});
  if (Buffer.byteLength(carry) > CARRY_BYTES_MAX) throw new NonRetryableError(`the carry of a wait has more than ${CARRY_BYTES_MAX} bytes`);
  const tasks = value.calls.map((call) => call.id);
  if (new Set(tasks).size < tasks.length) throw new NonRetryableError("a wait names the same call twice");
  return { outcome: "wait", wait: { tasks, then: value.then, carry: JSON.parse(carry) }, state: ctx.changedState(), emits: ctx.emits(value.calls) };
}

function describe(error) {
  const known = error instanceof NonRetryableError || error instanceof TurnError;
  const text = error instanceof Error ? `${known ? "" : `${error.name}: `}${error.message}` : String(error);
  return {
    code: known ? error.code : "skill-failed",
    message: text.slice(0, 2_000),
    retryable: error?.leave ? true : (error?.retryable ?? true) !== false,
    detail: { type: error?.name ?? typeof error, traceback: String(error?.stack ?? "").slice(0, 4_000) },
  };
}
