// SPDX-License-Identifier: Apache-2.0
// A filter of lists: a tag, written as key=value.

import { ApiError } from "./api.js";

export const TAG_FILTER = { name: "tag", label: "Tag", type: "text", placeholder: "key=value" };

// Return a function that loads a page of a list whose filters have `TAG_FILTER`, by `load`.
export const byTag = (load) => async ({ tag, ...parameters }) => load({ ...parameters, ...parametersOf(tag?.trim()) });

function parametersOf(tag) {
  if (!tag) return {};
  const [key, ...value] = tag.split("=");
  if (!key || !value.length) throw new ApiError(431, `tag has no value: ${tag}`, "write key=value");
  return { "tags[0].key": key, "tags[0].value": value.join("=") };
}
