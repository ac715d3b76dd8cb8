// The fixture agent of the conformance suite in JavaScript; its skills are the same in every language.

import { agent, NonRetryableError, wait } from "sutazai";

const sleep = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });

export default agent({
  name: "conformance",
  skills: {
    echo: { description: "Give back what came.", run: ({ value }) => ({ value }) },
    fan: {
      description: "Ask itself that many times and collect.",
      input: { type: "object", properties: { parts: { type: "integer", minimum: 0 } }, required: ["parts"] },
      run: ({ parts }, ctx) =>
        wait(Array.from({ length: parts }, (_, n) => ctx.call("conformance", "echo", { value: n })), {
          then: "collect",
          carry: { parts },
        }),
    },
    remember: {
      description: "Append to the session's state.",
      run: ({ value }, ctx) => {
        ctx.state.values = [...(ctx.state.values ?? []), value];
        return { values: ctx.state.values };
      },
    },
    steps: {
      description: "Count in the state with a checkpoint after each step, then work for a while.",
      run: async ({ count, ms }, ctx) => {
        while ((ctx.state.done ?? 0) < count) {
          ctx.state.done = (ctx.state.done ?? 0) + 1;
          await ctx.checkpoint();
        }
        await sleep(ms, ctx.signal);
        return { done: ctx.state.done, attempt: ctx.task.attempt };
      },
    },
    fail: {
      description: "Fail, for good or not.",
      run: ({ for_good }) => {
        throw for_good ? new NonRetryableError("for good") : new Error("this time");
      },
    },
    strict: {
      description: "Take a number from 1 to 5.",
      input: {
        type: "object", properties: { number: { type: "integer", minimum: 1, maximum: 5 } },
        required: ["number"], additionalProperties: false,
      },
      run: ({ number }) => ({ number }),
    },
    slow: {
      description: "Wait, and say how far it is.",
      run: async ({ ms }, ctx) => {
        ctx.progress(0.5, "half way");
        await sleep(ms, ctx.signal);
        return { ms };
      },
    },
    busy: {
      description: "Hold its thread without a pause.",
      run: ({ ms }) => {
        for (const until = Date.now() + ms; Date.now() < until; );
        return { ms };
      },
    },
    large: { description: "Give that many bytes.", run: ({ bytes }) => "x".repeat(bytes) },
    gather: {
      description: "Ask itself for that many bytes and measure.",
      run: ({ bytes }, ctx) => wait([ctx.call("conformance", "large", { bytes })], { then: "measure" }),
    },
  },
  steps: {
    measure: ({ results }) => ({ bytes: results[0].require().length }),
    collect: ({ results, carry }) => ({
      ids: results.map((result) => result.task), values: results.map((result) => result.require().value), ...carry,
    }),
  },
});
