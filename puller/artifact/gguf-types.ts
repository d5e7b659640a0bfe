// The numbers of GGUF files: element types with their block sizes, and what `general.file_type` means.
// Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and the public enums of ggml and llama.cpp.

/** Bytes of a metadata value by its type; strings (8) and arrays (9) have a length of their own. */
export const valueBytes: ReadonlyMap<number, number> = new Map([
  [0, 1],
  [1, 1],
  [2, 2],
  [3, 2],
  [4, 4],
  [5, 4],
  [6, 4],
  [7, 1],
  [10, 8],
  [11, 8],
  [12, 8],
]);

/** Elements and bytes of one block, by tensor element type. */
export const blockSizes: ReadonlyMap<number, { readonly elements: number; readonly bytes: number }> = new Map(
  (
    [
      [0, 1, 4],
      [1, 1, 2],
      [2, 32, 18],
      [3, 32, 20],
      [6, 32, 22],
      [7, 32, 24],
      [8, 32, 34],
      [9, 32, 36],
      [10, 256, 84],
      [11, 256, 110],
      [12, 256, 144],
      [13, 256, 176],
      [14, 256, 210],
      [15, 256, 292],
      [16, 256, 66],
      [17, 256, 74],
      [18, 256, 98],
      [19, 256, 50],
      [20, 32, 18],
      [21, 256, 110],
      [22, 256, 82],
      [23, 256, 136],
      [24, 1, 1],
      [25, 1, 2],
      [26, 1, 4],
      [27, 1, 8],
      [28, 1, 8],
      [29, 256, 56],
      [30, 1, 2],
      [34, 256, 54],
      [35, 256, 66],
      [39, 32, 17],
    ] as const
  ).map(([type, elements, bytes]) => [type, { elements, bytes }]),
);

/** Element types up to here may come with a newer ggml; above, the number is garbage. */
export const highestPlausibleElementType = 127;

const fileTypes: ReadonlyMap<number, string> = new Map([
  [0, "F32"],
  [1, "F16"],
  [2, "Q4_0"],
  [3, "Q4_1"],
  [7, "Q8_0"],
  [8, "Q5_0"],
  [9, "Q5_1"],
  [10, "Q2_K"],
  [11, "Q3_K_S"],
  [12, "Q3_K_M"],
  [13, "Q3_K_L"],
  [14, "Q4_K_S"],
  [15, "Q4_K_M"],
  [16, "Q5_K_S"],
  [17, "Q5_K_M"],
  [18, "Q6_K"],
  [19, "IQ2_XXS"],
  [20, "IQ2_XS"],
  [21, "Q2_K_S"],
  [22, "IQ3_XS"],
  [23, "IQ3_XXS"],
  [24, "IQ1_S"],
  [25, "IQ4_NL"],
  [26, "IQ3_S"],
  [27, "IQ3_M"],
  [28, "IQ2_S"],
  [29, "IQ2_M"],
  [30, "IQ4_XS"],
  [31, "IQ1_M"],
  [32, "BF16"],
  [36, "TQ1_0"],
  [37, "TQ2_0"],
  [38, "MXFP4_MOE"],
]);

/** Name of the quantization a `general.file_type` stands for; undefined for numbers we do not know. */
export function quantizationName(fileType: number): string | undefined {
  // Bit 10 says that the type was guessed from the tensors.
  return fileTypes.get(fileType & ~1024);
}
