// Why it exists: a page that some people cannot use, or that is too heavy, is found before it is published, with the
// places in it; and a new page can start as one that passes.

import { agent, NonRetryableError } from "sutazai";
import { audit } from "./auditing.mjs";
import { scaffold } from "./scaffolding.mjs";

const HTML_CHARACTERS_MAX = 400_000;
const COUNT = { type: "integer", minimum: 0 };
const TEXT = { type: "string" };
const LINE = { type: "string", minLength: 1, maxLength: 300 };

const BUDGET = {
  type: "object",
  description: "What the page may weigh; bytes are those of the document itself, nothing is fetched.",
  additionalProperties: false,
  properties: {
    html_bytes: { type: "integer", minimum: 1, default: 100_000 },
    inline_bytes: { type: "integer", minimum: 1, default: 50_000, description: "Of styles and scripts inside the page." },
    elements: { type: "integer", minimum: 1, default: 1_500 },
    requests: { type: "integer", minimum: 0, default: 25, description: "Files that a browser would fetch for it." },
  },
  default: {},
};

const AUDIT = {
  type: "object",
  required: ["verdict", "violations", "incomplete", "passes", "weight", "over_budget", "not_judged"],
  properties: {
    verdict: { enum: ["pass", "fail"] },
    violations: {
      type: "array",
      items: {
        type: "object",
        properties: { rule: TEXT, impact: TEXT, help: TEXT, standard: { type: "array", items: TEXT }, count: COUNT, places: { type: "array" } },
      },
    },
    incomplete: { type: "array", description: "Rules that a person has to judge." },
    passes: COUNT,
    weight: { type: "object" },
    over_budget: { type: "array", items: TEXT },
    not_judged: { type: "array", items: TEXT, description: "What cannot be known without drawing the page or running its scripts." },
  },
};

const SPEC = {
  type: "object",
  additionalProperties: false,
  required: ["title", "sections"],
  properties: {
    title: LINE,
    language: { type: "string", pattern: "^[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8})*$", default: "en" },
    description: { type: "string", maxLength: 300, default: "" },
    navigation: {
      type: "array", maxItems: 20, default: [],
      items: { type: "object", required: ["label", "href"], additionalProperties: false, properties: { label: LINE, href: LINE } },
    },
    sections: {
      type: "array", minItems: 1, maxItems: 50,
      items: {
        type: "object", required: ["heading"], additionalProperties: false,
        properties: {
          heading: LINE,
          paragraphs: { type: "array", maxItems: 50, items: { type: "string", maxLength: 5_000 }, default: [] },
          items: { type: "array", maxItems: 100, items: LINE, default: [] },
          image: {
            type: "object", required: ["src", "alt", "width", "height"], additionalProperties: false,
            properties: {
              src: LINE, alt: { type: "string", maxLength: 300 },
              width: { type: "integer", minimum: 1, maximum: 10_000 }, height: { type: "integer", minimum: 1, maximum: 10_000 },
            },
          },
        },
      },
    },
    form: {
      type: "object", required: ["action", "fields", "submit"], additionalProperties: false,
      properties: {
        action: LINE, submit: LINE,
        fields: {
          type: "array", minItems: 1, maxItems: 30,
          items: {
            type: "object", required: ["name", "label"], additionalProperties: false,
            properties: {
              name: { type: "string", pattern: "^[a-zA-Z][a-zA-Z0-9_-]{0,63}$" }, label: LINE,
              type: { enum: ["text", "email", "tel", "url", "number", "date", "password", "textarea", "checkbox"], default: "text" },
              required: { type: "boolean", default: false },
            },
          },
        },
      },
    },
  },
};

export default agent({
  name: "senior-frontend-developer",
  skills: {
    audit: {
      description: "Say what of a page some people cannot use (WCAG 2.2 A and AA, best practices), and what it weighs.",
      input: {
        type: "object", required: ["html"], additionalProperties: false,
        properties: { html: { type: "string", minLength: 1, maxLength: HTML_CHARACTERS_MAX }, budget: BUDGET },
      },
      output: AUDIT,
      run: ({ html, budget }, ctx) => audit(html, budget, ctx),
    },
    scaffold: {
      description: "Make a page from a description: landmarks, labels, contrast, no script; it passes the audit that comes with it.",
      input: { type: "object", required: ["spec"], additionalProperties: false, properties: { spec: SPEC } },
      output: { type: "object", required: ["html", "audit"], properties: { html: TEXT, audit: AUDIT } },
      run: async ({ spec }, ctx) => {
        const html = scaffold(spec);
        const judged = await audit(html, { html_bytes: 400_000, inline_bytes: 50_000, elements: 10_000, requests: 60 }, ctx);
        if (judged.verdict !== "pass") {
          const rules = [...judged.violations.map((each) => each.rule), ...judged.over_budget];
          throw new NonRetryableError(`the page would not pass its own audit: ${rules.join(", ")}`);
        }
        return { html, audit: judged };
      },
    },
  },
});
