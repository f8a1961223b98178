// Looks at the HTML reports in a headless Chromium: screenshots, what axe-core finds, and what scrolls.
//
//   node look.mjs PAGES OUT           every page in the folder PAGES, pictures and results.md into OUT
//   node look.mjs --docs PAGE OUT     the pictures of the documentation, of one page
//
// Exit codes: 0 nothing serious was found; 1 something was; 2 usage, no browser, or a file that cannot be opened.

import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const require = createRequire(import.meta.url);
const AXE = await readFile(require.resolve("axe-core/axe.min.js"), "utf8");
const WIDTHS = { wide: 1280, narrow: 400 };
const SCHEMES = ["light", "dark"];
const IMPACTS = ["critical", "serious", "moderate", "minor"];
// Pictures of the documentation: what is seen first.
const DOCS = [
  { name: "verify-report", width: 1280, height: 1060, colorScheme: "light" },
  { name: "verify-report-dark", width: 1280, height: 1060, colorScheme: "dark" },
  { name: "verify-report-narrow", width: 400, height: 1100, colorScheme: "light" },
];

/** Opens a page of a report, hands it to `look`, and closes it. */
async function visit(browser, file, { width, height = 900, colorScheme }, look) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme });
  const page = await context.newPage();
  await page.goto(pathToFileURL(resolve(file)).href);
  const seen = await look(page);
  await context.close();
  return seen;
}

/** Everything folded away is opened, as axe-core only judges what is shown. */
async function unfold(page) {
  await page.evaluate(() => {
    for (const fold of document.querySelectorAll("details")) fold.open = true;
  });
}

/** What axe-core finds in each mode of the map, a rule and an element once. */
async function violations(page) {
  const found = new Map();
  await page.evaluate(AXE);
  const modes = await page.locator("input[name=mode]").count();
  for (let mode = 0; mode < Math.max(1, modes); mode++) {
    if (modes > 0) await page.locator("input[name=mode]").nth(mode).evaluate((input) => input.click());
    const { violations } = await page.evaluate(() => axe.run());
    for (const { id, impact, help, nodes } of violations) {
      for (const { target } of nodes) found.set(`${id} ${target}`, { id, impact, help, target: `${target}` });
    }
  }
  return [...found.values()];
}

/** Does the page itself scroll sideways, and does anything but a named group scroll? */
async function scrolls(page) {
  return page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    const out = scrollWidth > clientWidth ? [`the page is ${scrollWidth} wide in ${clientWidth}`] : [];
    for (const element of document.querySelectorAll("body *")) {
      const { overflowX, overflowY } = getComputedStyle(element);
      const across = /auto|scroll/.test(overflowX) && element.scrollWidth > element.clientWidth;
      const down = /auto|scroll/.test(overflowY) && element.scrollHeight > element.clientHeight;
      const named = element.tabIndex === 0 && element.ariaLabel;
      if (down || (across && !named)) out.push(`${element.tagName}.${element.className} scrolls`);
    }
    return out;
  });
}

async function judge(browser, folder, out) {
  const rows = [];
  const details = [];
  const pages = (await readdir(folder)).filter((name) => name.endsWith(".html")).sort();
  if (pages.length === 0) throw new Error(`${folder}: no page in it`);
  for (const file of pages) {
    for (const colorScheme of SCHEMES) {
      for (const [size, width] of Object.entries(WIDTHS)) {
        const name = `${basename(file, ".html")}-${colorScheme}-${size}`;
        const found = await visit(browser, join(folder, file), { width, colorScheme }, async (page) => {
          await page.screenshot({ path: join(out, `${name}.png`), fullPage: true });
          await unfold(page);
          return { violations: await violations(page), scrolls: await scrolls(page) };
        });
        const counts = IMPACTS.map((impact) => found.violations.filter((one) => one.impact === impact).length);
        rows.push([basename(file), colorScheme, width, ...counts, found.scrolls.length]);
        for (const { impact, id, target } of found.violations) details.push(`${name}: ${impact}: ${id}: ${target}`);
        for (const what of found.scrolls) details.push(`${name}: ${what}`);
      }
    }
  }
  const head = ["page", "scheme", "width", ...IMPACTS, "stray scroll"];
  const { version } = require("axe-core/package.json");
  const lines = [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`);
  const made = `axe-core ${version}, Chromium ${browser.version()}`;
  await writeFile(join(out, "results.md"), [made, "", ...lines, ""].join("\n"));
  console.log([made, ...lines, ...details].join("\n"));
  return rows.every((row) => row[3] + row[4] + row[7] === 0) ? 0 : 1;
}

async function illustrate(browser, file, out) {
  for (const { name, ...options } of DOCS) {
    await visit(browser, file, options, (page) => page.screenshot({ path: join(out, `${name}.png`) }));
  }
  return 0;
}

const docs = process.argv[2] === "--docs";
const [input, out, ...more] = process.argv.slice(docs ? 3 : 2);
if (!out || more.length > 0) {
  console.error("usage: node look.mjs PAGES OUT, or node look.mjs --docs PAGE.html OUT");
  process.exit(2);
}
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
let browser;
try {
  await mkdir(out, { recursive: true });
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--force-device-scale-factor=1"] });
  process.exitCode = docs ? await illustrate(browser, input, out) : await judge(browser, input, out);
} catch (error) {
  console.error(`${error.message}`.split("\n")[0]);
  process.exitCode = 2;
} finally {
  await browser?.close();
}
