// Timers of the clock never keep a process alive; a command that waits with them says that it goes on.

const ANY_MS = 3_600_000;

/** The process lives on until this is disposed of. */
export function keepAlive(): Disposable {
  const timer = setInterval(() => {}, ANY_MS);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
