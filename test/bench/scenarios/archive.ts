// T14: a compressed archive as a layer.

import { checkFiles, pullArchive } from "../clients.ts";
import { mebibyte } from "../content.ts";
import { comparison, type Scenario, type Variant } from "../scenario.ts";
import { weightsArchive } from "../weights-archive.ts";

const archive: Scenario = {
  id: "T14",
  area: "pull",
  title: "tar+zstd layer of 1 GiB, against crane, zstd and tar",
  method:
    "A layer of about 1 GiB over four files of together 1.44 GiB, from nginx. Wall time of `crane blob | zstd -d | tar -x` and of `puller pull`, which checks the layer's digest and syncs the files.",
  prepare: async (bench) => {
    const unpackedBytes = bench.size(1472 * mebibyte, 4 * mebibyte);
    const { files, layer } = await weightsArchive(bench.contents, unpackedBytes);
    const artifact = bench.artifact("bench/archive", [layer]);
    const server = await bench.nginx([artifact]);
    const [crane, zstd] = [await bench.peer("crane"), await bench.peer("zstd")];
    if (server === undefined) return [];
    const reference = `${server.host}/${artifact.repository}@${layer.digest}`;
    const pipe: Variant | undefined = crane &&
      zstd && {
        name: "crane blob, zstd, tar",
        command: (place) => ({
          argv: [
            "bash",
            "-c",
            'set -o pipefail; "$1" blob --insecure "$2" | "$3" -dc | tar -x -C "$4"',
            "bash",
            crane.path,
            reference,
            zstd.path,
            place,
          ],
        }),
        after: async (place, _run, isThorough) => {
          checkFiles(place, files, isThorough);
          return undefined;
        },
      };
    return bench.storages.map((storage) =>
      comparison(`nginx, ${storage.name}`, storage, unpackedBytes, [
        { variant: pullArchive(bench.puller, { server, artifact }, files) },
        {
          variant: pipe,
          goals: [{ text: "wall, against crane, zstd and tar", figure: "wallSeconds", atMost: 0.9 }],
        },
      ]),
    );
  },
};

export const scenarios: readonly Scenario[] = [archive];
