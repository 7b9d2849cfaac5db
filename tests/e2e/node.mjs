// The appliance and the other programs around it, as the scenarios see them.
import { execFile, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
export const { HL_BASE4: base4, HL_BASE6: base6, HL_BASES: baseTls, HL_TOKEN: token } = process.env;

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
export const here = (name) => fileURLToPath(new URL(name, import.meta.url));

/** Waits until test() is truthy and returns that; throws what `what` was waited for. */
export async function until(what, ms, test) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await test();
    if (value) return value;
    if (Date.now() > end) throw new Error(`${what}: not within ${ms / 1000} s`);
    await sleep(100);
  }
}

/** hitlessctl -j COMMAND, parsed. */
export async function ctl(...command) {
  const { stdout } = await run(process.env.HL_CTL, ['-s', process.env.HL_SOCKET, '-j', ...command]);
  return JSON.parse(stdout);
}

/** Starts a program inside a namespace; the result collects its output and ends with it. */
export function start(netns, command, args, env = {}) {
  const child = spawn('ip', ['netns', 'exec', netns, command, ...args], {
    env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.output = '';
  child.errors = '';
  child.stdout.on('data', (data) => { child.output += data; });
  child.stderr.on('data', (data) => { child.errors += data; });
  child.ended = new Promise((done) => { child.on('close', (code) => done(code)); });
  return child;
}

/** Ends a program that start() started, kindly first. */
export async function end(child, signal = 'SIGINT') {
  if (child.exitCode === null) child.kill(signal);
  const late = setTimeout(() => child.kill('SIGKILL'), 4000);
  await child.ended;
  clearTimeout(late);
}

export async function isLive(stream) {
  const { streams } = await ctl('show', 'streams');
  return streams.some(({ name, live }) => name === stream && live);
}
