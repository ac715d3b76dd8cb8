// Why it exists: an hour of a fleet is seen in one look, in a file that stands in a report or a page; each number in it is
// one of the metric ring's, and its source is named beside the picture.

import { agent, NonRetryableError } from "sutazai";
import { draw } from "./drawing.mjs";
import { SUBJECTS, collect } from "./subjects.mjs";

const POINTS_WANTED = 240;
const RANGE_S_MAX = 7_200; // the ring keeps two hours
const POINTS = {
  type: "array", maxItems: 5_000,
  items: { type: "array", minItems: 2, maxItems: 2, items: { anyOf: [{ type: "number" }, { type: "null" }] } },
};
const RECORDED = {
  type: "object",
  description: "Series as the control API gives them, to draw in place of the fleet's own.",
  required: ["series"],
  properties: {
    series: {
      type: "array", minItems: 1, maxItems: 200,
      items: {
        type: "object", required: ["name", "points"],
        properties: {
          name: { type: "string", maxLength: 200 }, points: POINTS, source: { type: "string", maxLength: 1_000, default: "" },
          labels: { type: "object", additionalProperties: { type: "string", maxLength: 200 }, default: {} },
        },
      },
    },
  },
};

export default agent({
  name: "resource-visualiser",
  skills: {
    chart: {
      description: "Draw pools (memory), cores (busy share), latency (of tasks) or queues (open tasks) over the last range_s seconds.",
      input: {
        type: "object", required: ["what"], additionalProperties: false,
        properties: {
          what: { enum: Object.keys(SUBJECTS) },
          range_s: { type: "integer", minimum: 10, maximum: RANGE_S_MAX, default: 600 },
          width: { type: "integer", minimum: 200, maximum: 4_000, default: 900 },
          height: { type: "integer", minimum: 120, maximum: 4_000, default: 400 },
          recorded: RECORDED,
        },
      },
      output: {
        type: "object", required: ["svg", "title", "unit", "series", "points"],
        properties: {
          svg: { type: "string" }, title: { type: "string" }, unit: { type: "string" }, points: { type: "integer" },
          series: {
            type: "array",
            items: {
              type: "object", required: ["name", "last", "least", "most", "points", "source"],
              properties: { name: { type: "string" }, points: { type: "integer" }, source: { type: "string" } },
            },
          },
        },
      },
      run: async ({ what, range_s, width, height, recorded }, ctx) => {
        const subject = SUBJECTS[what];
        const answers = recorded ? [recorded] : await ask(subject, range_s, ctx);
        const series = collect(subject, answers.flatMap((answer) => answer.series));
        if (!series.length) throw new NonRetryableError(`${what}: there are no samples of the last ${range_s} s; the fleet takes one a second`);
        ctx.progress(0.5, "read");
        const svg = draw({ title: subject.title, unit: subject.unit, series, width, height });
        return { svg, title: subject.title, unit: subject.unit, series: series.map(summary), points: series.reduce((sum, each) => sum + each.points.length, 0) };
      },
    },
  },
});

function ask(subject, range_s, ctx) {
  const step = Math.max(1_000, Math.ceil((range_s * 1_000) / POINTS_WANTED / 1_000) * 1_000);
  const query = new URLSearchParams({ last_ms: String(range_s * 1_000), step_ms: String(step) });
  for (const name of subject.metrics) query.append("name", name);
  return Promise.all([ctx.fact(`/v1/metrics?${query}`)]);
}

function summary({ name, points, source }) {
  const values = points.map(([, value]) => value);
  return { name, last: values.at(-1), least: Math.min(...values), most: Math.max(...values), points: points.length, source };
}
