// How much of this machine's time others took: beside a bad figure it says whose fault that may be.
import { readFileSync, readdirSync } from 'node:fs';

const HZ = 100; // USER_HZ, the unit of /proc's times on every Linux that we run on

function ticks() {
  const [user, nice, system, , , irq, softirq, stolen] =
    readFileSync('/proc/stat', 'utf8').split('\n')[0].split(/\s+/).slice(1).map(Number);
  return { busy: user + nice + system + irq + softirq, stolen };
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

/**
 * Counts from now on; the function returned says in words how many CPUs' worth of time others than
 * `root`'s tree used, and the host of a virtual machine kept.
 */
export function watchOthers(root = process.ppid) {
  const begin = { at: Date.now(), ours: ourTicks(root), ...ticks() };
  return () => {
    const seconds = (Date.now() - begin.at) / 1000;
    const { busy, stolen } = ticks();
    const others = Math.max(0, busy - begin.busy - (ourTicks(root) - begin.ours));
    return `others used ${(others / HZ / seconds).toFixed(2)} CPUs meanwhile, the host kept ${((stolen - begin.stolen) / HZ / seconds).toFixed(2)}`;
  };
}
