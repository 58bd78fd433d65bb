// Identities: SPIFFE-style URIs of certificates. Pure; knows nothing of certificates.
import { HpccError } from "../../base/errors.ts";

declare const trustDomainBrand: unique symbol;
declare const nameBrand: unique symbol;
declare const tenantBrand: unique symbol;

/** A trust domain: lower-case DNS-like labels, at most 255 characters. */
export type TrustDomain = string & { readonly [trustDomainBrand]: true };
/** Name of a worker, scheduler or user within its trust domain: safe as a file name. */
export type IdentityName = string & { readonly [nameBrand]: true };
/** Name of a tenant: safe as a file name. */
export type TenantId = string & { readonly [tenantBrand]: true };

export type Identity =
  | { readonly kind: "worker"; readonly trustDomain: TrustDomain; readonly name: IdentityName }
  | { readonly kind: "scheduler"; readonly trustDomain: TrustDomain; readonly name: IdentityName }
  | Principal;

/** A user of a tenant: whom a client certificate names. */
export interface Principal {
  readonly kind: "user";
  readonly trustDomain: TrustDomain;
  readonly tenant: TenantId;
  readonly user: IdentityName;
}

const TRUST_DOMAIN_LENGTH_MAX = 255;
const TRUST_DOMAIN = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;
/**
 * Names of tenants, users, workers and schedulers: 63 characters at most; lower case only, so that two never differ by case
 * alone; no leading dot or dash, no "..".
 */
export const NAME = /^(?=.{1,63}$)[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+){0,3}$/;
/** `NAME` in words. */
export const NAME_RULE =
  "1 to 63 of a-z, 0-9, '.', '_' and '-'; first a letter or digit, and at most three dots, none at the end or beside another";
const URI_LENGTH_MAX = 512;

/** Parses a trust domain. UNTRUSTED: anybody. */
export function parseTrustDomain(text: string): TrustDomain {
  if (text.length > TRUST_DOMAIN_LENGTH_MAX || !TRUST_DOMAIN.test(text))
    throw new HpccError("identity.invalid", "a trust domain is lower-case DNS labels, such as build.example.com", {
      hint: "Correct the trust domain.",
    });
  return text as TrustDomain;
}

/** Parses a name of a worker, scheduler or user. UNTRUSTED: anybody. */
export function parseIdentityName(text: string, what: string): IdentityName {
  if (!NAME.test(text)) throw wrongName(what);
  return text as IdentityName;
}

/** Parses a tenant's name. UNTRUSTED: anybody. */
export function parseTenantId(text: string): TenantId {
  if (!NAME.test(text)) throw wrongName("a tenant");
  return text as TenantId;
}

function wrongName(what: string): HpccError {
  return new HpccError("identity.invalid", `${what} must be ${NAME_RULE}`, { hint: "Correct the name." });
}

/** Parses an identity's URI. UNTRUSTED: peers' certificates, schedulers. */
export function parseSpiffeId(uri: string): Identity {
  const invalid = () =>
    new HpccError("identity.invalid", "not a SPIFFE id of hpcc (worker, scheduler or tenant's user)", {
      hint: "They are spiffe://DOMAIN/worker/NAME, spiffe://DOMAIN/scheduler/NAME and spiffe://DOMAIN/tenant/NAME/user/NAME.",
    });
  if (uri.length > URI_LENGTH_MAX || !uri.startsWith("spiffe://")) throw invalid();
  const [domain, ...path] = uri.slice("spiffe://".length).split("/");
  const trustDomain = parseTrustDomain(domain ?? "");
  const [kind, first, third, fourth] = path;
  if (path.length === 2 && (kind === "worker" || kind === "scheduler"))
    return { kind, trustDomain, name: parseIdentityName(first ?? "", `a ${kind}'s name`) };
  if (path.length === 4 && kind === "tenant" && third === "user")
    return {
      kind: "user",
      trustDomain,
      tenant: parseTenantId(first ?? ""),
      user: parseIdentityName(fourth ?? "", "a user's name"),
    };
  throw invalid();
}

/** The identity's URI; `parseSpiffeId` reads it back. */
export function spiffeId(identity: Identity): string {
  const root = `spiffe://${identity.trustDomain}`;
  return identity.kind === "user"
    ? `${root}/tenant/${identity.tenant}/user/${identity.user}`
    : `${root}/${identity.kind}/${identity.name}`;
}

/** True when both belong to the same trust domain. */
export function sameTrustDomain(a: Identity, b: Identity): boolean {
  return a.trustDomain === b.trustDomain;
}
