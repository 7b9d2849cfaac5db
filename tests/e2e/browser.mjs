// Chromium for the tests: Debian's, headless, optionally inside a network namespace. Playwright
// talks to it through a pipe, which crosses namespaces, so this process may live outside.
import { chromium } from 'playwright-core';
import { fileURLToPath } from 'node:url';

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream', '--disable-features=WebRtcHideLocalIpsWithMdns',
  '--disable-background-timer-throttling', '--disable-renderer-backgrounding',
  '--disable-backgrounding-occluded-windows',
];

/**
 * Starts a browser. netns: name of a network namespace or null. secure: origins over plain HTTP
 * that may use the camera. gesture: false lets pages start sound by themselves.
 */
export function launch({ netns = null, secure = [], gesture = false, flags = [] } = {}) {
  const args = [...FLAGS, ...flags];
  if (!gesture) args.push('--autoplay-policy=no-user-gesture-required');
  if (secure.length) args.push(`--unsafely-treat-insecure-origin-as-secure=${secure.join(',')}`);
  return chromium.launch({
    executablePath: netns ? fileURLToPath(new URL('chromium-netns', import.meta.url)) : '/usr/bin/chromium',
    args,
    env: { ...process.env, HL_NETNS: netns ?? '' },
    ignoreDefaultArgs: ['--mute-audio'],
  });
}

/**
 * Opens a page in a browser (a new context with `options`) or in a context. page.faults collects its
 * exceptions and what its CSP blocked.
 */
export async function open(where, url, options = {}) {
  const context = where.newContext ? await where.newContext(options) : where;
  const page = await context.newPage();
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(String(error)));
  page.on('console', (message) => {
    const known = /Failed to load resource/; // refusals are tested for
    if (message.type() === 'error' && !known.test(message.text())) page.faults.push(message.text());
  });
  await page.goto(url, { waitUntil: 'commit' });
  return page;
}
