#include "pretrained/hub/upload_journal.h"

#include <algorithm>
#include <chrono>
#include <functional>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/base/sha256.h"
#include "pretrained/hub/blob_hash.h"
#include "pretrained/hub/settings.h"

namespace pretrained::hub {
namespace fs = std::filesystem;
namespace {

constexpr auto kKept = std::chrono::hours(30 * 24);
constexpr size_t kMostXorbs = 1024;  // 64 GiB of files; about 100 MB of memory

// Only what add() makes, killed or not, is swept away: who knows what else lies there, or where a
// link in place of the folder leads.
bool is_ours(const std::string& name) {
  std::string_view rest = name;
  if (rest.starts_with('.')) rest.remove_prefix(1);
  return is_hex(rest.substr(0, 64), 64) && rest.substr(64).starts_with(".shard");
}

void sweep(const fs::path& uploads) {
  std::error_code error;
  auto oldest = fs::file_time_type::clock::now() - kKept;
  for (fs::recursive_directory_iterator entry(uploads, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code gone;
    if (is_ours(entry->path().filename()) && entry->is_regular_file(gone) &&
        entry->last_write_time(gone) < oldest && !gone)
      fs::remove(entry->path(), gone);
  }
}

}  // namespace

UploadJournal::UploadJournal(const std::string& endpoint, const Repo& repo) {
  std::string name = Sha256()
                         .update_framed(endpoint)
                         .update_framed(type_name(repo.type))
                         .update_framed(repo.id)
                         .hex();
  fs::path uploads = home_folder() / "pretrained" / "upload";
  folder_ = uploads / name;
  sweep(uploads);
}

fs::path UploadJournal::file(const xet::Hash& xorb) const {
  return folder_ / (xorb.hex() + ".shard");
}

std::vector<xet::ShardXorb> UploadJournal::load() const {
  std::vector<std::pair<fs::file_time_type, fs::path>> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder_, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code gone;
    auto time = entry->last_write_time(gone);
    if (!gone && entry->path().extension() == ".shard") files.emplace_back(time, entry->path());
  }
  std::ranges::sort(files, std::greater());  // the newest
  if (files.size() > kMostXorbs) files.resize(kMostXorbs);

  std::vector<xet::ShardXorb> xorbs;
  for (auto& [_, path] : files) {
    try {
      auto shard = xet::parse_shard(read_file(path, xet::kMaxShard));
      for (auto& xorb : shard.xorbs) xorbs.push_back(std::move(xorb));
    } catch (const Error&) {
      std::error_code ignored;
      fs::remove(path, ignored);
    }
  }
  return xorbs;
}

void UploadJournal::add(const xet::ShardXorb& xorb) const {
  std::error_code error;
  fs::create_directories(folder_, error);
  xet::Shard shard;
  shard.xorbs.push_back(xorb);
  try {
    write_file_atomically(file(xorb.hash), xet::serialize_shard(shard), 0600);
  } catch (const IoError&) {
  } catch (const NotFoundError&) {
  }
}

void UploadJournal::remove(const xet::Hash& xorb) const {
  std::error_code error;
  fs::remove(file(xorb), error);
}

void UploadJournal::touch(const xet::Hash& xorb) const {
  std::error_code error;
  fs::last_write_time(file(xorb), fs::file_time_type::clock::now(), error);
}

}  // namespace pretrained::hub
