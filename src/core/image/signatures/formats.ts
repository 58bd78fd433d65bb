// The formats of signatures that need large libraries: a bundle of its own, loaded when a rule or a signature needs it.
export { parseTrustedCertificates, parseTrustedName } from "./certificate-chain.ts";
export { notationFault } from "./notation.ts";
export { keyedBundleFault, parseTrustedRoot, sigstoreFault } from "./sigstore.ts";
