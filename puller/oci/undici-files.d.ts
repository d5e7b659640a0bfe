// Files of undici that have no types of their own; http-client.ts says what they are.
declare module "undici/lib/*" {
  const exported: unknown;
  export default exported;
}
