#pragma once
// Files that this user made and that will be run or compiled against, each under a seal: a digest
// over a secret of the user's, the entry's name and its bytes. What was damaged, exchanged or put
// here by someone who can write the folder (a restored archive, a shared volume) but does not have
// the secret is no entry.

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "pretrained/base/export.h"

namespace pretrained::code {

class PRETRAINED_API Cache {
 public:
  // Without a `secret_file` the secret lies in the folder itself. It is made when first needed.
  explicit Cache(std::filesystem::path folder, std::filesystem::path secret_file = {});
  std::optional<std::string> read(const std::string& name, uint64_t limit) const;
  void write(const std::string& name, std::string_view bytes) const;

 private:
  std::string seal(const std::string& name, std::string_view bytes) const;
  std::filesystem::path folder_;
  std::string secret_;
};

}  // namespace pretrained::code
