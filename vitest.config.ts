import { defineConfig } from "vitest/config";

const shared = {
  hookTimeout: 600_000,
  testTimeout: 60_000,
  globalSetup: ["test/compiled/setup.ts"],
  server: { deps: { external: [/\/build\/compiled\//] } },
};

// Three kinds of suites: plain ones, those with a real control plane (several at once), and those with a real node
// (one at a time, after the others: a kubelet wants the machine for itself).
export default defineConfig({
  test: {
    maxWorkers: 3,
    projects: [
      {
        test: {
          ...shared,
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/**/*.cluster.test.ts", "test/**/*.node.test.ts"],
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...shared,
          name: "cluster",
          include: ["test/**/*.cluster.test.ts"],
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...shared,
          name: "node",
          include: ["test/**/*.node.test.ts"],
          fileParallelism: false,
          testTimeout: 180_000,
          maxWorkers: 1,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
