// Runs a headless Firefox by puppeteer-core (WebDriver BiDi). Prints {} when Firefox has started. Then reads commands,
// [name, argument], and answers each with {value} or {error}. Each is a line of JSON. Ends Firefox at the end of its
// input. NODE_PATH names the folder of the package.
"use strict";
const readline = require("node:readline");
const puppeteer = require("puppeteer-core");

const timeout = 120_000; // milliseconds for each step
const extraPrefsFirefox = {
  "media.autoplay.blocking_policy": 0,
  "media.autoplay.default": 0,
  "media.volume_scale": "0.0",
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "network.proxy.type": 0,
};
const print = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

async function main(executablePath) {
  const limits = { timeout, protocolTimeout: timeout };
  const browser = await puppeteer.launch({ browser: "firefox", executablePath, extraPrefsFirefox, ...limits });
  print({});
  let page = null;
  const commands = {
    open: async () => void (page = await browser.newPage()),
    go: async (url) => void (await page.goto(url, { timeout })),
    run: (script) => page.evaluate(script),
    close: () => page.close(),
  };
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [name, argument] = JSON.parse(line);
    print(await commands[name](argument).then((value) => ({ value }), (error) => ({ error: error.message })));
  }
  await browser.close();
}

main(process.argv[2]);
