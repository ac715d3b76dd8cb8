// Why it exists: which metrics make a picture, what each line in it is called, and in which unit it is drawn, in one table.

const MIB = 1024 * 1024;
const LINES_MAX = 12; // more cannot be told apart

/** @type {Record<string, {title: string, unit: string, scale: number, metrics: string[], label: (labels: object, name: string) => string}>} */
export const SUBJECTS = {
  pools: {
    title: "Memory in use, by pool", unit: "MB", scale: 1 / MIB, metrics: ["pool_used_bytes"], label: (labels) => labels.pool,
  },
  cores: {
    title: "Share of all cores that was busy, and that waited", unit: "%", scale: 100,
    metrics: ["host_cpu_busy_ratio", "host_pressure_ratio"],
    label: (labels, name) => (name === "host_cpu_busy_ratio" ? "busy" : `waited for ${labels.resource}`),
  },
  latency: {
    title: "Latency of tasks", unit: "ms", scale: 1_000, metrics: ["task_latency_seconds"],
    label: (labels) => `${labels.stage} p${String(Math.round(Number(labels.quantile) * 1_000) / 10)}`,
  },
  queues: {
    title: "Open tasks", unit: "tasks", scale: 1, metrics: ["queue_tasks"], label: (labels) => `${labels.agent} ${labels.state}`,
  },
};

/**
 * Take the series of a subject, scaled and named; the largest ones where there are too many.
 * @returns {{name: string, points: [number, number][], source: string}[]}
 */
export function collect(subject, found) {
  const series = found
    .filter((each) => subject.metrics.includes(each.name))
    .map((each) => ({
      name: subject.label(each.labels ?? {}, each.name),
      points: each.points.filter(([at, value]) => at !== null && value !== null).map(([at, value]) => [at, value * subject.scale]),
      source: each.source ?? "",
    }))
    .filter((each) => each.points.length);
  const most = (each) => Math.max(...each.points.map(([, value]) => value));
  const kept = new Set([...series].sort((a, b) => most(b) - most(a)).slice(0, LINES_MAX));
  return series.filter((each) => kept.has(each));
}
