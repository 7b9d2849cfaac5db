// Checks and their count, printed as TAP-like lines.
const count = { passed: 0, failed: 0 };

/** One check; `detail` is printed behind its name. */
export function ok(good, name, detail = '') {
  count[good ? 'passed' : 'failed']++;
  console.log(`${good ? 'ok' : 'not ok'} - ${name}${detail === '' ? '' : ` (${detail})`}`);
  return Boolean(good);
}

export const note = (words) => console.log(`# ${words}`);

/** Prints the count; true if something was checked and all was good. */
export function finish() {
  console.log(`${count.passed} passed, ${count.failed} failed`);
  return count.failed === 0 && count.passed > 0;
}

/** The value at `part` (0..1) of a list of numbers. */
export function quantile(values, part) {
  if (!values.length) return NaN;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
}
