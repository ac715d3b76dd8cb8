// Why it exists: a chart is drawn by ECharts without a browser, and must be readable: colours that people with any colour
// sight can tell apart, a line type besides, names at the lines, and a description for those who do not see it.

import * as echarts from "echarts/dist/echarts.esm.min.mjs";

// Okabe and Ito, "Color Universal Design" (2008), without yellow, which is too pale on white.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];
const LINES = ["solid", "dashed", "dotted"];
const DIGITS = 3;

const short = (value) => Number(Number(value).toPrecision(DIGITS)).toLocaleString("en", { useGrouping: false });
const escaped = (value) => String(value).replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);

/**
 * Draw lines over time.
 * @param {{title: string, unit: string, series: {name: string, points: [number, number][]}[], width: number, height: number}} what
 * @returns {string} an SVG document
 */
export function draw({ title, unit, series, width, height }) {
  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width, height });
  try {
    chart.setOption({
      animation: false,
      useUTC: true,
      backgroundColor: "#ffffff",
      color: COLOURS,
      title: { text: `${title} (${unit})`, left: 8, top: 4, textStyle: { fontSize: 14, color: "#1a1a1a" } },
      legend: { left: 8, top: 32, itemGap: 24, type: "plain", textStyle: { color: "#1a1a1a" } },
      grid: { left: 60, right: 40, top: 84, bottom: 36 },
      xAxis: { type: "time", axisLabel: { color: "#1a1a1a" } },
      yAxis: { type: "value", min: (range) => Math.min(0, range.min), axisLabel: { color: "#1a1a1a", formatter: short } },
      series: series.map(({ name, points }, at) => ({
        name, type: "line", data: points, showSymbol: points.length === 1, connectNulls: false,
        lineStyle: { width: 2, type: LINES[Math.floor(at / COLOURS.length) % LINES.length] },
      })),
    });
    const words = series.map(({ name, points }) => `${name}: ${short(points.at(-1)[1])} ${unit}`).join("; ");
    const svg = chart.renderToSVGString();
    return svg.replace(/<svg\b/, '<svg role="img"').replace(/>/, `><title>${escaped(title)}</title><desc>At the end: ${escaped(words)}</desc>`);
  } finally {
    chart.dispose();
  }
}
