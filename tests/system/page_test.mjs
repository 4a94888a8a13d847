// The web page in a real browser, as a person uses it: page_test.sh starts the server.
//   node page_test.mjs URL NPM_DIR [KEY]      with MOIETY_SCREENSHOTS=FOLDER pictures are left there
import assert from "node:assert/strict";
import {mkdirSync, readFileSync} from "node:fs";
import {createRequire} from "node:module";
import {join, resolve} from "node:path";

const [url, npm, key] = process.argv.slice(2);
const require = createRequire(resolve(npm) + "/");
const {chromium} = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const shots = process.env.MOIETY_SCREENSHOTS;
if (shots) mkdirSync(shots, {recursive: true});

const browser = await chromium.launch({executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"]});
const desk = {viewport: {width: 1360, height: 860}}, phone = {viewport: {width: 390, height: 780}, deviceScaleFactor: 2, isMobile: true, hasTouch: true};

let wrong = [];  // in the test that runs

// A fresh browser's page; what it logs as an error, asks of others or throws fails the test, unless `expected` matches.
async function open(options, {expected = /^$/} = {}) {
  const context = await browser.newContext({bypassCSP: false, ...options});
  const page = await context.newPage();
  page.setDefaultTimeout(30000);
  page.on("console", (message) => { if (message.type() === "error" && !expected.test(message.text())) wrong.push(`console: ${message.text()}`); });
  page.on("pageerror", (error) => wrong.push(`thrown: ${error.message}`));
  page.on("request", (request) => { if (!request.url().startsWith(url) && !/^(data|blob):/.test(request.url())) wrong.push(`asks ${request.url()}`); });
  await page.goto(url);
  const close = async () => {
    assert.deepEqual(wrong, []);
    await context.close();
  };
  const shot = (name) => shots && page.screenshot({path: join(shots, `${name}.png`)});
  return {page, close, shot};
}

const answers = (page) => page.locator(".message.assistant");
const stop_button = (page) => page.getByRole("button", {name: "Stop", exact: true});
const send_button = (page) => page.getByRole("button", {name: "Send", exact: true});
async function say(page, text) {
  await page.getByLabel("Your message").fill(text);
  await page.keyboard.press("Enter");
}
async function set(page, label, value) {
  await page.locator(".view-settings").click();
  await page.getByLabel(label).fill(String(value));
}
const finished = (page, count) => page.waitForFunction((wanted) => {
  const all = document.querySelectorAll(".message.assistant");
  return all.length === wanted && [...all].every((each) => each.getAttribute("aria-busy") === "false") && document.querySelector("[aria-label=Send]");
}, count);

// The map's pixels as one number, and how many colours it has.
const map_of = (page) => page.locator(".heat-map").evaluate((canvas) => {
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let hash = 0;
  const colours = new Set();
  for (let at = 0; at < data.length; at += 4) {
    const colour = data[at] << 16 | data[at + 1] << 8 | data[at + 2];
    hash = (Math.imul(hash, 31) + colour) | 0;
    colours.add(colour);
  }
  return {hash, colours: colours.size};
});

// How far the lightness (OKLab's, of the pixels as they are) of the legend's colours is from a straight line, 0 to 1; and where
// the line begins and ends.
const legend_of = (page) => page.locator(".legend canvas").evaluate((canvas) => {
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, 1);
  const linear = (byte) => byte / 255 <= 0.04045 ? byte / 255 / 12.92 : ((byte / 255 + 0.055) / 1.055) ** 2.4;
  const light = Array.from({length: canvas.width}, (_, at) => {
    const [r, g, b] = [0, 1, 2].map((part) => linear(data[4 * at + part]));
    return 0.2104542553 * Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) +
           0.7936177850 * Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) -
           0.0040720468 * Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  });
  const [first, last] = [light[0], light.at(-1)];
  return {first, last, off: Math.max(...light.map((each, at) => Math.abs(each - first - (last - first) * at / (light.length - 1))))};
});

// Serious violations of the accessibility rules (axe-core), in words. Its script is not the page's own: it is put in by the browser.
async function violations(page) {
  await page.evaluate(axe + "; 0");
  const {violations: found} = await page.evaluate(() => axe.run(document, {resultTypes: ["violations"]}));
  return found.filter(({impact}) => impact === "serious" || impact === "critical")
    .map(({id, nodes}) => `${id}: ${nodes.map((node) => `${node.target} ${node.any.concat(node.all).map(({message}) => message).join("; ")}`).join(" | ")}`);
}

async function test(name, body) {
  wrong = [];
  try {
    await body();
    console.log(`${name}: as it should be`);
  } catch (error) {
    console.log(`FAILED: ${name}\n${error.stack}\n${wrong.join("\n")}`);
    process.exitCode = 1;
  }
}

if (key) {
  await test("a server with keys asks for one", async () => {
    const {page, close, shot} = await open(desk, {expected: /401/});
    await page.getByLabel(/asks for an API key/).fill("wrong");
    await page.keyboard.press("Enter");
    await page.getByLabel(/does not know this API key/).fill(key);
    await shot("key");
    await page.keyboard.press("Enter");
    await set(page, "Longest answer", 24);
    await say(page, "hello");
    await finished(page, 1);
    assert.equal(await page.locator(".notice").count(), 0);
    await close();
  });
} else {
  await test("a conversation", async () => {
    const {page, close, shot} = await open(desk);
    await page.locator(".figures-list").waitFor();
    assert.deepEqual(await violations(page), [], "before anything is said");
    await shot("welcome");
    const light = await legend_of(page);
    assert.ok(light.first > light.last + 0.5 && light.off < 0.02, `the light scale: ${JSON.stringify(light)}`);
    const blank = await map_of(page);
    await set(page, "Longest answer", 24);
    await page.locator(".view-machine").click();
    await say(page, "hello");
    await finished(page, 1);
    const text = await answers(page).first().locator(".markdown").innerText();
    assert.ok(text.length > 0);
    assert.match(await answers(page).first().locator(".figures").innerText(), /24 tokens/);

    // The experts of this answer, and then of all
    const tell = (name) => page.getByRole("button", {name, exact: true});
    await page.waitForFunction(() => document.querySelector(".switch [aria-pressed=true]").textContent === "This answer");
    await page.waitForTimeout(600);  // for the colours to settle
    const answer_map = await map_of(page);
    assert.ok(answer_map.colours > 3, `the map has ${answer_map.colours} colours`);
    assert.notEqual(answer_map.hash, blank.hash);
    await page.locator(".heat-map").focus();
    await page.keyboard.press("ArrowRight");
    assert.match(await page.locator(".heat-cell").innerText(), /Layer \d+, expert 1 /);
    await tell("All load").click();
    await shot("answer");

    // The same again: a seed makes it the same text, none another
    await set(page, "Seed", 7);
    const again = page.getByRole("button", {name: "Answer again"});
    await again.click();
    await finished(page, 1);
    const seeded = await answers(page).first().locator(".markdown").innerText();
    await again.click();
    await finished(page, 1);
    assert.equal(await answers(page).first().locator(".markdown").innerText(), seeded);

    // Said otherwise
    await say(page, "and then?");
    await finished(page, 2);
    await page.locator(".message.user").first().hover();
    await page.getByRole("button", {name: "Edit and send again"}).first().click();
    await page.getByLabel("Your message, edited").fill("something else");
    await page.keyboard.press("Enter");
    await finished(page, 1);
    assert.deepEqual(await page.locator(".bubble").allInnerTexts(), ["something else"]);

    // Kept over a reload; another chat beside it; gone when deleted
    await page.reload();
    assert.deepEqual(await page.locator(".bubble").allInnerTexts(), ["something else"]);
    await page.getByRole("button", {name: "New chat"}).click();
    await say(page, "a second chat");
    await finished(page, 1);
    assert.equal(await page.locator(".chats li").count(), 2);
    page.once("dialog", (dialog) => dialog.accept());
    await page.getByRole("button", {name: "Delete a second chat"}).click();
    assert.equal(await page.locator(".chats li").count(), 1);
    assert.deepEqual(await violations(page), [], "after a conversation");
    await close();
  });

  await test("an answer streams, moves the map, and stops when it is told to", async () => {
    const {page, close, shot} = await open({...desk, colorScheme: "dark"});
    await page.locator(".heat-map").waitFor();
    await say(page, "tell me a long story");
    await page.locator(".message.assistant.streaming .markdown").waitFor();
    const length = () => answers(page).first().evaluate((element) => element.textContent.length);
    const early = await length(), map = await map_of(page);
    await page.waitForFunction((before) => document.querySelector(".message.assistant").textContent.length > before + 20, early);
    await page.waitForTimeout(1000);
    assert.notEqual((await map_of(page)).hash, map.hash, "the map stands still");
    await shot("dark");
    const scale = await legend_of(page);
    assert.ok(scale.last > scale.first + 0.5 && scale.off < 0.02, `the dark scale: ${JSON.stringify(scale)}`);
    assert.deepEqual(await violations(page), [], "in the dark");
    assert.ok(await stop_button(page).isVisible(), "the answer was over before it could be stopped");
    await page.keyboard.press("Escape");
    await finished(page, 1);
    assert.match(await answers(page).first().locator(".figures").innerText(), /stopped/);
    const stopped = await length();
    await page.waitForTimeout(500);
    assert.equal(await length(), stopped);
    // The server knows, too
    await page.waitForFunction(() => /^0 running/.test([...document.querySelectorAll(".figure")][1].querySelector(".value").textContent));
    const dark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await page.getByRole("button", {name: /Colours: system/}).click();
    assert.notEqual(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), dark, "light is like dark");
    await close();
  });

  await test("what the server refuses is said where it was asked", async () => {
    const {page, close, shot} = await open(desk, {expected: /400/});
    await set(page, "System prompt", "very long ".repeat(40000));
    await say(page, "hello");
    const trouble = page.locator(".trouble");
    await trouble.waitFor();
    assert.match(await trouble.innerText(), /Start a new chat|Change the settings/);
    await shot("trouble");
    await page.getByRole("button", {name: "Reset"}).click();
    await set(page, "Temperature", 7);
    assert.match(await page.locator("#note-temperature").innerText(), /from 0 to 2/);
    await close();
  });

  // From here on some answers come from a script: things that a small model does not say.
  const scripted = (page, deltas, end = "data: [DONE]\n\n") => page.route("**/v1/chat/completions", (route) => route.fulfill({
    status: 200, contentType: "text/event-stream",
    body: deltas.map((delta) => `data: ${JSON.stringify({choices: [{index: 0, delta, finish_reason: delta.finish ?? null}]})}\n\n`).join("") + end,
  }));

  await test("nothing that a model says is run or fetched", async () => {
    const {page, close} = await open(desk);
    const evil = "<script>hurt = 1</script><img src=x onerror='hurt = 1'>\n\n![picture](https://example.org/a.png) [go](javascript:hurt=1) " +
      "[web](https://example.org/)\n\n<iframe src='https://example.org'></iframe>\n\n```\"onmouseover=hurt=1\n</code><svg onload='hurt=1'>\n```\n\n" +
      "<style>body { display: none }</style>\n\n| a |\n| --- |\n| <b onclick=hurt=1>b</b> |\n\n[ref]\n\n[ref]: data:text/html,hurt";
    await scripted(page, [{content: evil.slice(0, 60)}, {content: evil.slice(60)}, {finish: "stop"}]);
    await say(page, "hello");
    await finished(page, 1);
    const found = await page.locator(".assistant .markdown").evaluate((element) => ({
      elements: element.querySelectorAll("script, img, iframe, svg, style, object, form, input").length,
      links: [...element.querySelectorAll("a")].map((link) => link.href),
      handlers: [...element.querySelectorAll("*")].filter((each) => [...each.attributes].some(({name}) => name.startsWith("on") || name === "style")).length,
      text: element.innerText, hurt: typeof hurt,
    }));
    assert.equal(found.elements + found.handlers, 0);
    assert.deepEqual(found.links, ["https://example.org/a.png", "https://example.org/"]);
    assert.equal(found.hurt, "undefined");
    assert.match(found.text, /<script>hurt = 1<\/script>/);
    await close();
  });

  await test("reasoning is folded, tools are called, a lost connection is told", async () => {
    const {page, close, shot} = await open(desk);
    const call = (index, fields) => ({tool_calls: [{index, ...fields}]});
    await scripted(page, [{role: "assistant", content: ""}, {reasoning_content: "Which "}, {reasoning_content: "town?"},
      call(0, {id: "a", type: "function", function: {name: "weather", arguments: ""}}), call(0, {function: {arguments: "{\"town\": "}}),
      call(0, {function: {arguments: "\"Jena\"}"}}), call(1, {id: "b", function: {name: "time", arguments: "{}"}}), {finish: "tool_calls"}]);
    await say(page, "hello");
    await finished(page, 1);
    assert.equal(await page.locator(".reasoning .markdown").isVisible(), false);
    await page.getByText("Thoughts").click();
    assert.equal(await page.locator(".reasoning .markdown").innerText(), "Which town?");
    await page.getByText("weather").first().click();
    assert.deepEqual(JSON.parse(await page.locator(".call pre").first().innerText()), {town: "Jena"});
    await shot("call");
    assert.deepEqual(await violations(page), [], "tool calls");

    await page.unroute("**/v1/chat/completions");
    await scripted(page, [{content: "It rai"}], "");
    const asked = page.waitForRequest("**/v1/chat/completions");
    await page.getByLabel("Result of weather").fill("rain");
    await page.getByLabel("Result of time").fill("noon");
    await page.getByRole("button", {name: "Give them to the model"}).click();
    const {messages} = (await asked).postDataJSON();
    assert.deepEqual(messages.slice(1), [
      {role: "assistant", content: "", tool_calls: [{id: "a", type: "function", function: {name: "weather", arguments: "{\"town\": \"Jena\"}"}},
                                                    {id: "b", type: "function", function: {name: "time", arguments: "{}"}}]},
      {role: "tool", content: "rain", tool_call_id: "a"}, {role: "tool", content: "noon", tool_call_id: "b"}]);
    await finished(page, 2);
    assert.equal(await answers(page).last().locator(".markdown").innerText(), "It rai");
    assert.match(await page.locator(".trouble").innerText(), /connection was lost/);
    await close();
  });

  await test("a long answer is drawn whole", async () => {
    const {page, close} = await open(desk);
    const paragraph = "Some *words* of a [long](https://example.org/) answer, `code` and all. ".repeat(8);
    await scripted(page, [...Array(400).fill({content: `${paragraph}\n\n- one\n- two\n\n`}), {finish: "stop"}]);
    await say(page, "hello");
    await finished(page, 1);
    assert.equal(await page.locator(".assistant .markdown > div p").count(), 400);
    await close();
  });

  await test("on a telephone", async () => {
    const {page, close, shot} = await open({...phone, reducedMotion: "reduce"});
    await set(page, "Longest answer", 32);
    await shot("phone-settings");
    await page.locator(".view-chat").click();
    await say(page, "hello");
    await finished(page, 1);
    await shot("phone-chat");
    for (const part of ["chat", "chats", "machine", "settings"]) {
      await page.locator(`.view-${part}`).click();
      assert.equal(await page.locator(".part:visible").count(), 1);
      const {width, wide} = await page.evaluate(() => ({width: innerWidth, wide: document.documentElement.scrollWidth}));
      assert.ok(wide <= width, `${part} is ${wide} pixels wide on ${width}`);
      assert.deepEqual(await violations(page), [], part);
    }
    await page.locator(".view-machine").click();
    await page.locator(".heat-map").tap({position: {x: 20, y: 5}});
    await shot("phone-machine");
    await close();
  });

  await test("by the keyboard alone", async () => {
    const {page, close} = await open(desk);
    await page.locator(".heat-map").waitFor();
    const seen = new Set();
    for (let at = 0; at < 40; ++at) {
      await page.keyboard.press("Tab");
      seen.add(await page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent.trim()));
    }
    for (const name of ["To the conversation", "Machine", "Settings", "New chat", "Your message"]) assert.ok(seen.has(name), `${name} among ${[...seen]}`);
    assert.ok([...seen].some((name) => /by layer/.test(name)), "the heat map");
    await close();
  });
}

await browser.close();
