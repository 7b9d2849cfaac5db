// A worker that says "now" at a steady rate: timers of a page in the background are slowed down,
// those of its workers are not. It is told the interval in milliseconds; 0 stops it.
let timer = 0;
onmessage = ({ data: interval }) => {
  clearInterval(timer);
  if (interval <= 0) return;
  // A short period against the due time keeps the rate true where setInterval would drift.
  let due = performance.now();
  timer = setInterval(() => {
    const now = performance.now();
    if (now < due) return;
    due = Math.max(due + interval, now - interval);
    postMessage(0);
  }, Math.min(interval, 4));
};
