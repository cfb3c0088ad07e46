#pragma once
// Files in a folder of one's own, with the bookkeeping that `hf download --local-dir` keeps too:
//
//   <folder>/.cache/huggingface/download/<path>.metadata   commit, etag, Unix seconds: one a line
//   <folder>/.cache/huggingface/download/<path>.lock
//   <folder>/.cache/huggingface/trees/<commit>.json
//
// A file counts as what its metadata says as long as it was not changed later.

#include <filesystem>
#include <optional>
#include <string>

#include "pretrained/hub/cache.h"
#include "pretrained/hub/downloader.h"

namespace pretrained::hub {

class LocalFolder : public Destination {
 public:
  LocalFolder(const std::filesystem::path& folder, const Cache& cache, Repo repo,
              std::string commit);

  std::filesystem::path bookkeeping() const { return folder_ / ".cache/huggingface"; }
  // Whether the file is what the commit says; hashed where there is no metadata that holds.
  bool is_current(const RemoteFile& file, const std::string& path) const;

  FileDescriptor lock(const Wanted& wanted, const std::function<void()>& on_wait) override;
  bool reuse(const Wanted& wanted) override;
  std::filesystem::path part_base(const Wanted& wanted) override;
  void place(const Wanted& wanted, PartFile& part) override;

 private:
  std::filesystem::path file_of(const std::string& path) const;
  std::filesystem::path record(const std::string& path, const std::string& suffix) const;
  void prepare();
  bool copy(const std::filesystem::path& from, const Wanted& wanted, size_t first);
  void write_metadata(const std::string& path, const std::string& etag) const;
  std::filesystem::path folder_;
  const Cache& cache_;
  Repo repo_;
  std::string commit_;
};

}  // namespace pretrained::hub
