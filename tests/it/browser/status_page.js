// Opens the status page of argv[2] with the browser argv[3]. Prints a JSON object with the observations for status_page_browser.rs.
// Usage: node status_page.js URL CHROMIUM MODULES TEXT ACTION
// It waits until the page shows TEXT, 5 s at most. With the ACTION `drain`, it first drains the first backend by the page.
const [, , url, executablePath, modules, text, action] = process.argv;
const { chromium } = require(`${modules}/playwright-core`);
const axe = require(`${modules}/axe-core`).source;

(async () => {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
  const seen = { requests: [], errors: [], violations: [], shown: false };
  for (const colorScheme of ['light', 'dark']) {
    for (const viewport of [{ width: 1400, height: 900 }, { width: 390, height: 800 }]) {
      const context = await browser.newContext({ colorScheme, viewport, bypassCSP: false });
      const page = await context.newPage();
      page.on('request', (request) => seen.requests.push(request.url()));
      page.on('console', (message) => message.type() === 'error' && seen.errors.push(message.text()));
      page.on('pageerror', (error) => seen.errors.push(String(error)));
      await page.goto(url, { waitUntil: 'load' });
      if (action === 'drain' && viewport.width > 1000 && colorScheme === 'light') {
        await page.locator('button[data-do=draining]').first().click();
        await page.locator('#yes').click();
      }
      await page.locator(`main:has-text("${text}")`).waitFor({ timeout: 5000 });
      seen.shown = true;
      seen.paint = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime);
      // `evaluate` runs in the page by the debugging protocol, which the policy of the page does not restrict.
      await page.evaluate(axe);
      const result = await page.evaluate(() => axe.run());
      for (const violation of result.violations) {
        seen.violations.push(`${colorScheme} ${viewport.width}: ${violation.id}: ${violation.nodes[0].html}`);
      }
      await context.close();
    }
  }
  await browser.close();
  console.log(JSON.stringify(seen));
})().catch((error) => { console.error(error); process.exit(1); });
