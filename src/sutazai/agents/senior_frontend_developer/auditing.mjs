// Why it exists: accessibility is judged by axe-core, the engine that browsers' own tools use, on a document that jsdom has
// parsed; weight is counted from the same document. Scripts of the page are never run and nothing is fetched.

import { gzipSync } from "node:zlib";
import axe from "axe-core";
import { JSDOM, VirtualConsole } from "jsdom";

const PLACES_MAX = 10;
const SNIPPET_CHARACTERS = 200;
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
// Rules that need the page drawn: sizes and colours are not known here.
const NOT_JUDGED = ["color-contrast", "target-size", "link-in-text-block", "scrollable-region-focusable"];
const FETCHED = "link[rel~=stylesheet][href], link[rel~=icon][href], script[src], img[src], iframe[src], source[src], video[src], audio[src], object[data], embed[src]";

/**
 * Audit a page.
 * @param {string} html
 * @param {{html_bytes: number, inline_bytes: number, elements: number, requests: number}} budget
 */
export async function audit(html, budget, ctx) {
  const dom = new JSDOM(html, { runScripts: "outside-only", virtualConsole: new VirtualConsole() });
  try {
    const { window } = dom;
    ctx.progress(0.2, "parsed");
    const weight = weigh(html, window.document);
    window.eval(axe.source);
    const rules = Object.fromEntries(NOT_JUDGED.map((rule) => [rule, { enabled: false }]));
    const options = { runOnly: { type: "tag", values: TAGS }, rules, resultTypes: ["violations", "incomplete"], preload: false };
    const found = await window.axe.run(window.document.documentElement, options);
    ctx.progress(0.9, "judged");
    const violations = found.violations.map(describe).sort((a, b) => rank(b) - rank(a) || a.rule.localeCompare(b.rule));
    const over = Object.keys(budget).filter((what) => weight[what] > budget[what]);
    return {
      verdict: violations.length || over.length ? "fail" : "pass",
      violations,
      incomplete: found.incomplete.map(describe),
      passes: found.passes.length,
      weight,
      over_budget: over.map((what) => `${what} is ${weight[what]}, the budget ${budget[what]}`),
      not_judged: NOT_JUDGED,
      engine: `axe-core ${axe.version}`,
    };
  } finally {
    dom.window.close();
  }
}

const IMPACTS = ["minor", "moderate", "serious", "critical"];
const rank = (violation) => IMPACTS.indexOf(violation.impact);

function describe({ id, impact, help, tags, nodes }) {
  return {
    rule: id,
    impact: impact ?? "minor",
    help,
    standard: tags.filter((tag) => /^wcag\d{3,}$/.test(tag)),
    count: nodes.length,
    places: nodes.slice(0, PLACES_MAX).map(({ target, html, failureSummary }) => ({
      selector: target.flat().join(" "),
      html: html.slice(0, SNIPPET_CHARACTERS),
      problem: (failureSummary ?? "").split("\n").slice(1).map((line) => line.trim()).filter(Boolean).join("; "),
    })),
  };
}

/** Count what a page weighs. */
function weigh(html, document) {
  const bytes = (text) => Buffer.byteLength(text);
  const sum = (selector, text) => [...document.querySelectorAll(selector)].reduce((total, each) => total + bytes(text(each)), 0);
  const styles = sum("style", (each) => each.textContent) + sum("[style]", (each) => each.getAttribute("style"));
  const scripts = sum("script:not([src])", (each) => each.textContent);
  const fetched = [...document.querySelectorAll(FETCHED)].filter((each) => !/^data:/i.test(each.src ?? each.href ?? each.data ?? ""));
  return {
    html_bytes: bytes(html),
    gzip_bytes: gzipSync(html).length,
    inline_bytes: styles + scripts,
    inline_style_bytes: styles,
    inline_script_bytes: scripts,
    elements: document.querySelectorAll("*").length,
    requests: fetched.length,
    images_without_size: [...document.querySelectorAll("img")].filter((each) => !each.hasAttribute("width") || !each.hasAttribute("height")).length,
    scripts_that_block: document.querySelectorAll("head script[src]:not([async]):not([defer]):not([type=module])").length,
  };
}
