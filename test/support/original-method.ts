// What a method did before a test put another one in its place.
type MethodsOf<T> = { [K in keyof T]: T[K] extends (...given: never[]) => unknown ? K : never }[keyof T];
type Given<T, K extends keyof T> = T[K] extends (...given: infer G) => unknown ? G : never;
type Gives<T, K extends keyof T> = T[K] extends (...given: never[]) => infer R ? R : never;

/** The method as it is now, to be called with its object and its arguments, whatever takes its place later. */
export function originalMethod<T extends object, K extends MethodsOf<T>>(
  holder: T,
  name: K,
): (self: T, ...given: Given<T, K>) => Gives<T, K> {
  const method = holder[name] as (...given: Given<T, K>) => Gives<T, K>;
  return (self, ...given) => Reflect.apply(method, self, given);
}
