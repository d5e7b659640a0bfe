// The order of quality of variants, as the choice uses it. The table is the puller's, which keeps the best of many with it:
// two tables would disagree. Pure.

export {
  compareQuality,
  knownQuantizations,
  quantizationBits,
  type Graded,
} from "../../puller/artifact/quality.ts";
