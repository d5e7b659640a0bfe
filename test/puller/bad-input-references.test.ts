// B2: references that are none, or that only look good. No request leaves for them.

import { describe } from "vitest";
import { testBadInputs, type BadInput } from "./bad-input.ts";

const expected = "expected [registry/]repository[:tag][@digest]";
const hex = "a".repeat(64);

/** Name, reference, what the message says. */
const rows: readonly (readonly [name: string, reference: string, ...says: readonly string[]])[] = [
  ["https", "https://registry.example.com/ai/model:x", "URL scheme; leave it out"],
  ["oci", "oci://registry.example.com/ai/model:x", '"oci://', "URL scheme; leave it out"],
  ["docker", "docker://ai/model", "URL scheme; leave it out"],
  ["a user name", "someone:canary-secret@registry.example.com/ai/model", "***@registry", "docker config"],
  [
    "a user name behind a scheme",
    "https://someone:canary-secret@registry.example.com/ai/model",
    "***@",
    "scheme",
  ],
  [
    "a user name without password",
    "someone@registry.example.com/ai/model",
    "it holds a user name; leave it out",
  ],
  ["port 0", "registry.example.com:0/ai/model", 'port "0"', "between 1 and 65535"],
  ["port 65536", "registry.example.com:65536/ai/model", 'port "65536"', "between 1 and 65535"],
  ["a port of letters", "registry.example.com:https/ai/model", 'port "https"'],
  ["an empty port", "registry.example.com:/ai/model", 'port ""'],
  ["a negative port", "registry.example.com:-1/ai/model", 'port "-1"'],
  ["IPv6 without brackets", "::1/ai/model", '"::1" is no host (IPv6 addresses stand in brackets)'],
  ["an unclosed bracket", "[::1/ai/model", "is no host (IPv6"],
  ["brackets around no address", "[::g]/ai/model", "is no host (IPv6"],
  ["nine groups of IPv6", "[1:2:3:4:5:6:7:8:9]/ai/model", "is no IPv6 address"],
  ["IPv6 with a zone", "[fe80::1%25eth0]/ai/model", "is no host (IPv6"],
  ["a decimal IPv4 address", "2130706433:5000/ai/model", "another spelling of 127.0.0.1; write that"],
  ["a hexadecimal IPv4 address", "0x7f.1/ai/model", "another spelling of 127.0.0.1; write that"],
  ["an octal IPv4 address", "0177.0.0.1/ai/model", "another spelling of 127.0.0.1; write that"],
  ["a short IPv4 address", "127.1:5000/ai/model", "another spelling of 127.0.0.1; write that"],
  ["an IPv4 address with 300", "300.1.1.1/ai/model", '"300.1.1.1" is no host name and no IP address'],
  ["an IPv4 address of five", "1.2.3.4.5/ai/model", "is no host name and no IP address"],
  [
    "a repository with capitals",
    "REGISTRY/AI/Model:x",
    '"AI" has capital letters; repositories are lower case',
  ],
  ["a parent directory", "REGISTRY/ai/../model", 'repository part ".."'],
  ["a directory itself", "REGISTRY/ai/./model", 'repository part "."'],
  ["a hidden name", "REGISTRY/ai/.model", 'repository part ".model"'],
  ["two slashes", "REGISTRY/ai//model", 'repository part ""'],
  ["a slash behind", "REGISTRY/ai/model/", 'repository part ""'],
  ["a slash in front", "/ai/model", 'repository part ""'],
  ["only a registry", "REGISTRY/", 'repository part ""'],
  ["two dots in a name", "REGISTRY/ai/mod..el", 'repository part "mod..el"'],
  ["three underscores", "REGISTRY/ai/mod___el", 'repository part "mod___el"'],
  ["a dash behind", "REGISTRY/ai/model-", 'repository part "model-"'],
  ["percent encoding", "REGISTRY/ai/%2e%2e/model", 'repository part "%2e%2e"'],
  ["a backslash", "REGISTRY/ai\\model", "repository part"],
  ["an empty tag", "REGISTRY/ai/model:", '"" is no tag (1 to 128'],
  ["a tag of 129 characters", `REGISTRY/ai/model:${"t".repeat(129)}`, "is no tag (1 to 128"],
  ["a tag with a dot in front", "REGISTRY/ai/model:.x", '".x" is no tag'],
  ["a tag with a dash in front", "REGISTRY/ai/model:-x", '"-x" is no tag'],
  ["a tag with a plus", "REGISTRY/ai/model:v1+cu12", '"v1+cu12" is no tag'],
  ["a tag with a slash", "REGISTRY/ai/model:a/b", "repository part"],
  ["two tags", "REGISTRY/ai/model:a:b", '"a:b" is no tag'],
  ["two digests", `REGISTRY/ai/model@sha256:${hex}@sha256:${hex}`, "is no sha256 or sha512 digest"],
  ["a digest in front of a tag", `REGISTRY/ai/model@sha256:${hex}:x`, "is no sha256 or sha512 digest"],
  ["a name of 300 characters", `REGISTRY/${"a".repeat(300)}`, "its name is longer than 255 characters"],
  ["10,000 characters", `REGISTRY/${"a/".repeat(5000)}a`, "its name is longer than 255 characters"],
  ["a host of 300 characters", `${"a.".repeat(150)}com/ai/model`, "is no host name"],
  ["a label of 64 characters", `${"a".repeat(64)}.com/ai/model`, "is no host name"],
  ["an international host", "bücher.example/ai/model", '"bücher.example" is no host name'],
  ["a host with a Cyrillic letter", "registry.еxample.com/ai/model", "is no host name"],
  ["full-width letters", "REGISTRY/ai/ｍodel", "repository part"],
  ["a space behind", "REGISTRY/ai/model:x ", "white space around it"],
  ["a line break behind", "REGISTRY/ai/model:x\n", "white space around it"],
  ["a line break in it", "REGISTRY/ai/mo\ndel:x", 'repository part "mo\\ndel"'],
  ["a NUL", "REGISTRY/ai/model:x\u0000", "is no tag"],
  ["an escape sequence", "REGISTRY/ai/\u001b[31mmodel", "repository part"],
  ["a dot behind the host", "registry.example.com./ai/model", '"registry.example.com." is no host name'],
  ["a dash in front of the host", "-registry.example.com/ai/model", "is no host name"],
  ["an underscore in the host", "my_registry.example.com/ai/model", "is no host name"],
  ["only a host name with a port", "localhost:5000/", 'repository part ""'],
  ["shell metacharacters", "REGISTRY/ai/model:$(id)", '"$(id)" is no tag'],
  ["a pipe", "REGISTRY/ai/model|sh", "repository part"],
  ["a template", "REGISTRY/ai/{{ .model }}", "repository part"],
  ["an unset variable", "$(HOST)/ai/model", "repository part"],
  ["a query", "REGISTRY/ai/model?ns=x", "repository part"],
  ["a fragment", "REGISTRY/ai/model#x", "repository part"],
  ["only a tag", ":x", 'repository part ""'],
  ["only a digest", `@sha256:${hex}`, 'repository part ""'],
];

describe("a reference that is none", () => {
  testBadInputs(
    "bad-references",
    rows.map(([name, reference, ...says]): BadInput => ({
      name,
      args: [`--reference=${reference}`],
      exitCode: 64,
      code: "InvalidReference",
      says: [...says, expected],
      asks: [],
    })),
  );
});

describe("flags that cannot be", () => {
  const usage = (name: string, flag: string, ...says: readonly string[]): BadInput => ({
    name,
    args: ["--reference=REGISTRY/ai/model:x", flag],
    exitCode: 64,
    code: "InvalidUsage",
    says,
    asks: [],
  });
  const configuration = (name: string, flag: string, ...says: readonly string[]): BadInput => ({
    ...usage(name, flag, ...says),
    exitCode: 78,
    code: "InvalidConfiguration",
  });
  testBadInputs("bad-flags", [
    usage("plain http: a URL", "--plain-http=http://localhost:5000", '"http://localhost:5000"', "host:port"),
    usage("plain http: a path", "--plain-http=localhost:5000/ai", "is no host; expected host or host:port"),
    usage("plain http: a wildcard", "--plain-http=*", '--plain-http "*" is no host'),
    usage("trusted host: a URL", "--trusted-host=https://cdn.example.com", "without scheme and path"),
    usage("trusted host: a user name", "--trusted-host=a@b", "is no host"),
    usage("trusted host: port 70000", "--trusted-host=cdn.example.com:70000", "is no host"),
    usage("mirror: no equals sign", "--mirror=https://m.example.com", "is not HOST=URL, such as"),
    usage("mirror: a URL for a host", "--mirror=https://docker.io=https://m.example.com", "is no host"),
    configuration(
      "mirror: no URL",
      "--mirror=docker.io=:::",
      'the mirror of docker.io: ":::"',
      "expected https://",
    ),
    configuration("mirror: ftp", "--mirror=docker.io=ftp://m.example.com", "is no http or https URL"),
    configuration(
      "mirror: a query",
      "--mirror=docker.io=https://m.example.com/?a=b",
      "without user name and query",
    ),
    configuration(
      "mirror: a password",
      "--mirror=docker.io=https://a:canary-secret@m.example.com",
      "its URL is no http",
    ),
    configuration(
      "a CA file that is not there",
      "--ca-file=ROOM/none.pem",
      "CA file ROOM/none.pem cannot be read (ENOENT)",
    ),
    configuration(
      "a CA file that is none",
      "--ca-file=package.json",
      "package.json holds no PEM certificate",
    ),
    configuration(
      "a docker config that is not there",
      "--docker-config=ROOM/none",
      "ROOM/none cannot be read (ENOENT)",
      "is there a Secret",
    ),
    configuration("a docker config that is a directory", "--docker-config=ROOM", "cannot be read (EISDIR)"),
    configuration("a docker config without end", "--docker-config=/dev/zero", "is larger than 1048576 bytes"),
    usage("concurrency 0", "--concurrency=0", '--concurrency "0" is not a whole number from 1 to 64'),
    usage("concurrency 65", "--concurrency=65", "from 1 to 64"),
    usage("concurrency 1.5", "--concurrency=1.5", "whole number"),
    usage("concurrency 1e1", "--concurrency=1e1", '"1e1"'),
    usage("an unknown log level", "--log-level=loud", '--log-level "loud" is none of debug, info'),
    usage("a progress address without port", "--progress-address=localhost", "is not HOST:PORT"),
    usage("a progress address with port 99999", "--progress-address=localhost:99999", "is not HOST:PORT"),
    usage(
      "a progress address elsewhere",
      "--progress-address=192.0.2.1:8085",
      "cannot be listened on (EADDRNOTAVAIL)",
    ),
    usage("a second reference", "--reference=REGISTRY/ai/other:x", "pull takes one --reference"),
    usage("a flag of another command", "--tags=*", "unknown flag --tags"),
    usage("a misspelt flag", "--referense=x", "unknown flag --referense; did you mean --reference?"),
    usage("a short flag", "-r", "unknown flag -r"),
    usage("an argument without flag", "model", '"model" is not expected; every value has a flag'),
    {
      ...usage("an argument behind the end of flags", "", '"model" is not expected'),
      args: ["--reference=REGISTRY/ai/model:x", "--", "model"],
    },
    usage("an empty value", "--include=", "--include is empty"),
    {
      ...usage(
        "globs that leave nothing",
        "--include=*.onnx",
        "leave no file; the artifact has model.safetensors",
      ),
      asks: [/manifests/, /blobs/],
    },
  ]);
});

describe("proxies that are none", () => {
  const proxy = (
    name: string,
    environment: Readonly<Record<string, string>>,
    ...says: readonly string[]
  ): BadInput => ({
    name,
    environment,
    exitCode: 78,
    code: "InvalidConfiguration",
    says: [...says, "expected http://[user:password@]host:port"],
    asks: [],
  });
  testBadInputs("bad-proxies", [
    proxy(
      "a scheme of another protocol",
      { HTTP_PROXY: "ftp://someone:canary-secret@proxy:21" },
      "HTTP_PROXY is no http",
    ),
    proxy("no URL", { https_proxy: "http://" }, "HTTPS_PROXY is no http"),
    proxy("a space", { HTTPS_PROXY: "proxy host:3128" }, "HTTPS_PROXY is no http"),
    proxy("a port of letters", { HTTP_PROXY: "proxy:port" }, "HTTP_PROXY is no http"),
  ]);
});
