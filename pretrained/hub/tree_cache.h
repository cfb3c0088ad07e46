#pragma once
// The files of a commit as they were listed once: they never change. Python's clients read and
// write the same trees/<commit>.json, in a repository's folder of the cache or in
// <local_dir>/.cache/huggingface.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "pretrained/hub/client.h"

namespace pretrained::hub {

// Sorted by path. Nothing where there is none; a damaged one, or one of another format, counts as
// none.
PRETRAINED_API std::optional<std::vector<RemoteFile>> read_tree(const std::filesystem::path& folder,
                                                                const std::string& commit);
PRETRAINED_API void write_tree(const std::filesystem::path& folder, const std::string& commit,
                               const std::vector<RemoteFile>& files);

}  // namespace pretrained::hub
