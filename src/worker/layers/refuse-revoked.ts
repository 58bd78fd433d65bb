// Gives no answer that was taken back, wherever it came from: also one that was found, compiled or joined before its VM broke its
// contract, and one that was taken back while its row was written.
import { HpccError } from "../../base/errors.ts";
import type { Answer, Job, Layer } from "./layer.ts";

export class RefuseRevokedLayer implements Layer {
  readonly #next: Layer;

  constructor(next: Layer) {
    this.#next = next;
  }

  async run(job: Job): Promise<Answer> {
    const answer = await this.#next.run(job);
    try {
      await refuse(job, answer);
    } catch (error) {
      await answer.result.close();
      throw error;
    }
    return {
      ...answer,
      afterRow: async (row) => {
        await refuse(job, answer);
        await answer.afterRow(row);
      },
    };
  }
}

async function refuse({ keys, store }: Job, { key, result }: Answer): Promise<void> {
  const { origin } = result.recorded;
  if (await store.actions.revoked((key ?? keys.own).key, origin))
    throw new HpccError("result.revoked", "the result was taken back before it could be sent", {
      details: { vm: origin.vm },
    });
}
