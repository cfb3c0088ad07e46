#include <unistd.h>

#include "server/git/child.h"
#include "server/git/state.h"

namespace pretrained::server {
namespace {

struct StoredPack {
  std::string checksum, pack_blob, index_blob;
  uint64_t bytes;
};

// A pack ends with the checksum that it is named by; git compares it with the content.
std::string pack_problem(const BlobStore& blobs, const StoredPack& pack) try {
  uint64_t size = blobs.size(pack.pack_blob);
  if (size + blobs.size(pack.index_blob) != pack.bytes)
    return "pack " + pack.checksum + ": is not as long as when it was stored";
  FileDescriptor file = blobs.open(pack.pack_blob);
  git_oid end{};
  if (size < 32 || pread(file.get(), end.id, GIT_OID_RAWSZ, off_t(size - GIT_OID_RAWSZ)) !=
                       ssize_t(GIT_OID_RAWSZ))
    return "pack " + pack.checksum + ": too short";
  if (to_hex(end) != pack.checksum)
    return "pack " + pack.checksum + ": ends with checksum " + to_hex(end);
  return "";
} catch (const Error& error) {
  return "pack " + pack.checksum + ": " + error.what();
}

bool is_listed(Database& database, int64_t repo, const StoredPack& pack) {
  return database.read([&](Transaction& t) {
    return t.one("SELECT 1 FROM packs WHERE repo = ? AND pack_blob = ?", repo, pack.pack_blob)
        .has_value();
  });
}

void add_lines(const std::string& text, std::vector<std::string>& problems) {
  for (size_t begin = 0; begin < text.size() && problems.size() < 1000;) {
    size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    if (!line.empty() && line.rfind("notice:", 0) != 0) problems.push_back(printable(line, 500));
    begin = end + 1;
  }
}

}  // namespace

std::vector<std::string> GitStore::fsck(int64_t repo) {
  std::vector<StoredPack> packs = state_->database.read([&](Transaction& t) {
    std::vector<StoredPack> list;
    for (auto& row :
         t.query("SELECT checksum, pack_blob, index_blob, bytes FROM packs WHERE repo = ?", repo))
      list.push_back({row.text(0), row.text(1), row.text(2), uint64_t(row.integer(3))});
    return list;
  });
  std::vector<std::string> problems;
  for (auto& pack : packs) {
    std::string problem = pack_problem(state_->blobs, pack);
    // It may have been repacked away meanwhile.
    if (!problem.empty() && is_listed(state_->database, repo, pack)) problems.push_back(problem);
  }
  if (!problems.empty()) return problems;

  state_->caches.drop(repo);
  Snapshot snapshot = state_->caches.current(repo);
  std::string output;
  GitCall call{{"fsck", "--strict", "--full", "--no-dangling", "--no-progress"},
               snapshot.folder->path()};
  call.silence = call.processor;
  call.output = [&](std::string_view bytes) {
    if (output.size() < (1 << 20)) output.append(bytes);
  };
  GitResult result = run_git(call);
  add_lines(output, problems);
  add_lines(result.errors, problems);
  if (result.exit_code != 0 && problems.empty())
    problems.push_back("git fsck: exit code " + std::to_string(result.exit_code));
  return problems;
}

}  // namespace pretrained::server
