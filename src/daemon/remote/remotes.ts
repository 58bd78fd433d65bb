// The ways to workers, one for each image, identity and set of schedulers. All code of gRPC and TLS that a daemon runs is reached through here
// alone, so that a daemon without workers need not load it.
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { ClientConfig } from "../../config/client.ts";
import { repositoryOfImage } from "../../config/project-image.ts";
import { readTlsFiles } from "../../wire/grpc/tls-files.ts";
import type { Project } from "../project.ts";
import { isChosenWorker } from "./chosen-worker.ts";
import type { ReceiptKeeper } from "./receipt-keeper.ts";
import { RemoteCompiler } from "./remote-compiler.ts";
import { WorkerClient } from "./worker-client.ts";
import { WorkerConnections } from "./worker-connections.ts";

export interface RemotesOptions {
  readonly receipts: ReceiptKeeper;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Version of hpcc, for workers. */
  readonly version: string;
}

type Identity = NonNullable<ClientConfig["identity"]>;

export class Remotes {
  readonly #options: RemotesOptions;
  readonly #compilers = new Map<string, RemoteCompiler>();
  /** The streams to workers, by the identity that they are made with. */
  readonly #workers = new Map<string, WorkerConnections>();

  constructor(options: RemotesOptions) {
    this.#options = options;
  }

  /** The way to workers for a project's image. */
  of({ config, imageDigest }: Project, identity: Identity): RemoteCompiler {
    const { schedulers, isolationMin } = config;
    const repository = repositoryOfImage(config.image);
    const key = JSON.stringify([identity, schedulers, imageDigest, isolationMin, repository]);
    const known = this.#compilers.get(key);
    if (known !== undefined) return known;
    const { clock, logger } = this.#options;
    const compiler = new RemoteCompiler({
      schedulers,
      credentials: () => readTlsFiles(identity, clock.wallMs()),
      query: { image: imageDigest, isolationMin, ...(repository !== null && { repository }) },
      workers: this.#workersOf(identity),
      clock,
      logger,
      random: Math.random,
    });
    this.#compilers.set(key, compiler);
    return compiler;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#compilers.values(), ...this.#workers.values()].map((remote) => remote.close()));
  }

  #workersOf(identity: Identity): WorkerConnections {
    const key = JSON.stringify(identity);
    const known = this.#workers.get(key);
    if (known !== undefined) return known;
    const { receipts, clock, logger, version } = this.#options;
    const workers = new WorkerConnections({
      onResult: (result) => receipts.keep(result),
      credentials: () => readTlsFiles(identity, clock.wallMs()),
      connect: (worker, credentials, signal) =>
        WorkerClient.connect({
          address: worker.address,
          tls: credentials.tls,
          accept: isChosenWorker(worker, credentials.identity),
          version,
          clock,
          signal,
        }),
      clock,
      logger,
      random: Math.random,
    });
    this.#workers.set(key, workers);
    return workers;
  }
}
