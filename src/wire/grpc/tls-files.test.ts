import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { TestAuthority } from "../../../test/support/certificates.ts";
import { HpccError } from "../../base/errors.ts";
import { readTlsFiles, type TlsFiles } from "./tls-files.ts";

const DAY_MS = 86_400_000;

describe("a side's own credentials", () => {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-tls-files-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const nowMs = Date.now();
  let ann: TlsFiles;
  let bob: TlsFiles;

  function write(name: string, bytes: Buffer): string {
    const path = join(folder, name);
    writeFileSync(path, bytes, { mode: 0o600 });
    return path;
  }

  async function issue(authority: TestAuthority, user: string): Promise<TlsFiles> {
    const tls = await authority.issue(`tenant/acme/user/${user}`);
    return {
      certificate: write(`${user}.pem`, tls.certificate),
      key: write(`${user}.key`, tls.key),
      ca: write(`${user}.ca`, tls.ca),
    };
  }

  before(async () => {
    ann = await issue(await TestAuthority.create(), "ann");
    bob = await issue(await TestAuthority.create(), "bob");
  });

  function refused(files: TlsFiles, message: RegExp, atMs = nowMs, hint = /./): void {
    assert.throws(
      () => readTlsFiles(files, atMs),
      (error) =>
        error instanceof HpccError &&
        error.code === "identity.invalid" &&
        message.test(error.message) &&
        hint.test(error.hint),
    );
  }

  test("are taken when all fit together", () => {
    const { identity, expiresMs } = readTlsFiles(ann, Date.now());
    assert.deepEqual(identity, { kind: "user", trustDomain: "test.example", tenant: "acme", user: "ann" });
    assert.ok(expiresMs > nowMs && expiresMs <= Date.now() + 7 * DAY_MS);
  });

  test("a key that others can read is refused, and the way out is named", () => {
    for (const mode of [0o640, 0o604, 0o660, 0o644]) {
      chmodSync(ann.key, mode);
      refused(ann, /ann\.key can be read by others/, nowMs, /chmod 600 .*ann\.key/);
    }
    chmodSync(ann.key, 0o600);
  });

  test("a certificate that is over, or not valid yet, is refused", () => {
    refused(ann, /ann\.pem expired on \d{4}-/, nowMs + 8 * DAY_MS, /hpcc ca issue/);
    refused(ann, /not valid yet; check the clock/, nowMs - DAY_MS);
  });

  test("what does not belong together is refused, each by name", () => {
    refused({ ...ann, key: bob.key }, /bob\.key is not the key of .*ann\.pem/);
    refused({ ...ann, ca: bob.ca }, /ann\.pem was not issued by a CA of .*bob\.ca/);
    refused({ ...ann, key: join(folder, "none") }, /cannot read .*none/);
    refused({ ...ann, certificate: write("rubbish", Buffer.from("rubbish")) }, /rubbish cannot be read/);
  });
});
