// Why it exists: what the code of an agent imports: `import { agent, wait } from "sutazai"`.

import { unsupported } from "./schema.mjs";

const NAME = /^[a-z][a-z0-9-]{0,62}$/;
const SKILL = /^[a-z][a-z0-9_]{0,62}$/;

/** The same input will fail again: the task is not tried another time. */
export class NonRetryableError extends Error {
  code = "non-retryable";
  retryable = false;
}

/**
 * Say what an agent can do.
 *
 * @typedef {object} Skill
 * @property {string} [description] one line for people and models
 * @property {object} [input] JSON Schema of an object; without it every object is taken
 * @property {object} [output] JSON Schema of what `run` returns
 * @property {(input: any, ctx: import("./context.mjs").Context) => any} run may be async
 *
 * @param {{name: string, skills: Record<string, Skill>, steps?: Record<string, (came: {results: Result[], carry: any},
 *   ctx: import("./context.mjs").Context) => any>}} definition
 */
export function agent(definition) {
  const mistakes = mistakesOf(definition);
  if (mistakes.length) throw new NonRetryableError(`this is no agent: ${mistakes.join("; ")}`);
  return definition;
}

/**
 * Return it from a skill or a step to wait for other agents: the turn commits, and `then` runs when all are done.
 * @param {import("./context.mjs").Call[]} calls from `ctx.call`; their order is the order of the results
 * @param {{then: string, carry?: object}} next name of a step, and what it is handed
 */
export function wait(calls, { then, carry = {} }) {
  return new Wait(calls, then, carry);
}

export class Wait {
  constructor(calls, then, carry) {
    Object.assign(this, { calls, then, carry });
  }
}

/** How a call ended. */
export class Result {
  constructor(entry) {
    Object.assign(this, entry);
  }

  /** Whether it succeeded, and its result is here. */
  get ok() {
    return this.status === "succeeded" && !this.error;
  }

  /** Give the result, or throw what the call ended with. */
  require() {
    if (this.ok) return this.result;
    throw new Error(`${this.agent}.${this.skill} ${this.status}: ${this.error?.message ?? this.status}`);
  }
}

/** Find all that makes a definition unusable. @returns {string[]} */
export function mistakesOf(definition) {
  if (typeof definition !== "object" || definition === null) return ["its default export is no object with name and skills"];
  const found = [];
  if (!NAME.test(definition.name ?? "")) found.push(`its name ${JSON.stringify(definition.name)} is not allowed`);
  const skills = Object.entries(definition.skills ?? {});
  if (!skills.length) found.push("it has no skill");
  for (const [name, skill] of skills) {
    if (!SKILL.test(name)) found.push(`a skill's name ${JSON.stringify(name)} is not allowed`);
    if (typeof skill?.run !== "function") found.push(`${name} has no function run`);
    for (const what of ["input", "output"]) {
      if (skill?.[what] === undefined) continue;
      for (const problem of unsupported(skill[what])) found.push(`${name}.${what}: ${problem}`);
    }
    if (skill?.input && skill.input.type !== "object") found.push(`${name}.input is no object with properties`);
  }
  for (const [name, step] of Object.entries(definition.steps ?? {})) {
    if (typeof step !== "function") found.push(`the step ${name} is no function`);
  }
  return found;
}
