// Whether somebody else works on this machine: figures of time are then not the appliance's fault,
// and are worth measuring again.
import { note } from './tap.mjs';
import { readFileSync, readdirSync } from 'node:fs';

const OTHERS = 0.15; // CPUs used by others that make a bad figure of time doubtful
const ATTEMPTS = 3;
const HZ = 100; // USER_HZ, the unit of /proc's times on every Linux that we run on

function busyTicks() {
  const [user, nice, system, , , irq, softirq] = readFileSync('/proc/stat', 'utf8').split('\n')[0].split(/\s+/).slice(1).map(Number);
  return user + nice + system + irq + softirq;
}

function processes() {
  const all = new Map();
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ');
      // utime, stime, and the same of children that ended: those moved there and count once.
      all.set(Number(pid), { parent: Number(fields[1]), ticks: fields.slice(11, 15).reduce((sum, n) => sum + Number(n), 0) });
    } catch {
      // It ended between the listing and the reading.
    }
  }
  return all;
}

function ourTicks(root) {
  const all = processes();
  const isOurs = (pid) => {
    for (let at = pid, i = 0; at && i < 64; at = all.get(at)?.parent, i++) {
      if (at === root || at === 2) return true; // 2: kernel threads work for us, too
    }
    return false;
  };
  let sum = 0;
  for (const [pid, { ticks }] of all) if (isOurs(pid)) sum += ticks;
  return sum;
}

/** Counts from now on; the function returned says how many CPUs' worth others than `root`'s tree used. */
export function watchOthers(root = process.ppid) {
  const before = { at: Date.now(), busy: busyTicks(), ours: ourTicks(root) };
  return () => {
    const seconds = (Date.now() - before.at) / 1000;
    const others = busyTicks() - before.busy - (ourTicks(root) - before.ours);
    return Math.max(0, others / HZ / seconds);
  };
}

/** Measures, and again if the result is bad while others kept the machine busy. */
export async function quietly(measureOnce, isGood) {
  for (let attempt = 1; ; attempt++) {
    const others = watchOthers();
    const result = await measureOnce();
    const share = others();
    if (isGood(result) || share < OTHERS || attempt === ATTEMPTS) return result;
    note(`others used ${share.toFixed(2)} CPUs meanwhile: measured again`);
  }
}
