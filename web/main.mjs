import { buildModel } from "./model.mjs";
import { selfCheck } from "./check.mjs";
