// Every change in every state, and the diagram that people read.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { transition, type VmChange, type VmState } from "./vm-state.ts";

/** One of each state, and where the number of executions decides, one of each kind. */
const STATES: readonly VmState[] = [
  { t: "booting" },
  { t: "warm", sinceMs: 1 },
  { t: "busy", executions: 1 },
  { t: "busy", executions: 2 },
  { t: "draining", executions: 1, reason: "evicted" },
  { t: "draining", executions: 2, reason: "evicted" },
  { t: "scrubbing" },
  { t: "parked", sinceMs: 1, diskBytes: 1 },
  { t: "restoring" },
  { t: "destroying", reason: "idle" },
];
const CHANGES: { readonly [T in VmChange["t"]]: Extract<VmChange, { readonly t: T }> } = {
  booted: { t: "booted", nowMs: 2 },
  began: { t: "began" },
  "began-only": { t: "began-only" },
  ended: { t: "ended", nowMs: 2 },
  drain: { t: "drain", reason: "session-limit" },
  park: { t: "park" },
  parked: { t: "parked", nowMs: 2, diskBytes: 7 },
  restore: { t: "restore" },
  restored: { t: "restored", nowMs: 2 },
  destroy: { t: "destroy", reason: "closed" },
};

/** "from change to" for all that transition() allows. */
function edges(): Set<string> {
  const found = new Set<string>();
  for (const state of STATES)
    for (const change of Object.values(CHANGES))
      try {
        found.add(`${state.t} ${change.t} ${transition(state, change).t}`);
      } catch (error) {
        assert.match(String(error), /an execution|a VM|only execution/, "what cannot happen says what it was");
      }
  return found;
}

function drawnEdges(): Set<string> {
  const page = readFileSync(new URL("../../ARCHITECTURE.md", import.meta.url), "utf8");
  const [, diagram = ""] = /```mermaid\nstateDiagram-v2\n(.*?)```/s.exec(page) ?? [];
  const found = new Set<string>();
  for (const [, from, to, changes = ""] of diagram.matchAll(/^\s*(\w+) --> (\w+): (.+)$/gm))
    for (const change of changes.split(", ")) found.add(`${from} ${change} ${to}`);
  return found;
}

describe("the life of a VM", () => {
  it("is what ARCHITECTURE.md draws, edge by edge", () => {
    const drawn = drawnEdges();
    assert.ok(drawn.size > 20, `only ${drawn.size} edges were read`);
    assert.deepEqual([...drawn].sort(), [...edges()].sort());
  });

  it("begins and ends where the diagram says", () => {
    const page = readFileSync(new URL("../../ARCHITECTURE.md", import.meta.url), "utf8");
    const ends = [...page.matchAll(/^ {4}(\S+) --> (\S+)$/gm)].map(([, from, to]) => `${from} ${to}`);
    assert.deepEqual(ends, ["[*] booting", "destroying [*]"]);
  });

  it("comes to its end from every state, and the first reason stays", () => {
    for (const state of STATES) {
      const ended = transition(state, CHANGES.destroy);
      assert.deepEqual(ended, { t: "destroying", reason: state.t === "destroying" ? "idle" : "closed" });
      assert.deepEqual(transition(ended, { t: "destroy", reason: "lost" }), ended);
    }
  });

  it("counts executions, and drains to its reason", () => {
    let state = transition({ t: "warm", sinceMs: 1 }, CHANGES.began);
    state = transition(state, CHANGES.began);
    assert.deepEqual(state, { t: "busy", executions: 2 });
    state = transition(state, CHANGES.drain);
    state = transition(state, CHANGES.ended);
    assert.deepEqual(state, { t: "draining", executions: 1, reason: "session-limit" });
    assert.deepEqual(transition(state, CHANGES.ended), { t: "destroying", reason: "session-limit" });
  });

  it("lets a clean one run once", () => {
    const running = transition({ t: "warm", sinceMs: 1 }, CHANGES["began-only"]);
    assert.throws(() => transition(running, CHANGES.began));
    assert.deepEqual(transition(running, CHANGES.ended), { t: "destroying", reason: "one-job" });
  });
});
