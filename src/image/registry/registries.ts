// Sessions with the registries that have an image: mirrors first, with the user's credentials for each.
import { join } from "node:path";
import type { ImageName } from "../../core/image/image-name.ts";
import { findCredential } from "./credentials.ts";
import { Dialer } from "./dialer.ts";
import { TIMING, type Timing } from "./limits.ts";
import { sourcesOf } from "./registries-conf.ts";
import { dialledHost, RegistrySession } from "./session.ts";

export interface RegistriesOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly timing?: Timing;
  readonly signal?: AbortSignal | undefined;
}

export class Registries {
  readonly #options: RegistriesOptions;
  readonly #dialers: Dialer[] = [];

  constructor(options: RegistriesOptions) {
    this.#options = options;
  }

  /** One session for each place that may have the image, in the order in which they are to be asked. */
  async sessions(name: ImageName, actions: "pull" | "pull,push"): Promise<RegistrySession[]> {
    const { env, timing = TIMING, signal } = this.#options;
    const sources = sourcesOf(env, name, actions === "pull,push");
    const insecureHosts = new Set(
      sources.filter(({ insecure }) => insecure).map((source) => dialledHost(source.registry)),
    );
    const dialer = new Dialer({ env, certificateFolders: certificateFolders(env), insecureHosts, timing, signal });
    this.#dialers.push(dialer);
    return Promise.all(
      sources.map(
        async ({ registry, repository }) =>
          new RegistrySession({
            dialer,
            host: dialledHost(registry),
            repository,
            credential: await findCredential(env, registry, repository),
            actions,
          }),
      ),
    );
  }

  [Symbol.dispose](): void {
    for (const dialer of this.#dialers) dialer.close();
  }
}

function certificateFolders(env: RegistriesOptions["env"]): string[] {
  const { HOME: home, XDG_CONFIG_HOME: config, DOCKER_CERT_PATH: named } = env;
  const own = config ? config : home && join(home, ".config");
  return [
    "/etc/docker/certs.d",
    "/etc/containers/certs.d",
    home && join(home, ".docker/certs.d"),
    own && join(own, "containers/certs.d"),
    named,
  ].filter((folder): folder is string => folder !== undefined && folder !== "");
}
