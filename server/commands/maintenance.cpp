#include "server/commands/maintenance.h"

#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <set>
#include <utility>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "server/repos/attachments.h"

namespace pretrained::server {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kManyPacks = 32;

std::vector<int64_t> all_repos(Database& database) {
  std::vector<int64_t> ids;
  for (auto& row : database.read([](Transaction& t) { return t.query("SELECT id FROM repos"); }))
    ids.push_back(row.integer(0));
  return ids;
}

// What the history of every reference names; nothing where the repository is gone meanwhile.
std::optional<std::vector<std::string>> named_objects(Hub& hub, int64_t repo) {
  if (!hub.repos.find(repo)) return std::nullopt;
  std::vector<Oid> tips;
  for (auto& ref : hub.git.refs(repo)) tips.push_back(ref.target);
  std::vector<std::string> names;
  if (!tips.empty())
    for (auto& pointer : hub.git.open(repo)->pointers(tips, {})) names.push_back(pointer.sha256);
  return names;
}

std::vector<std::string> blob_names(Transaction& t) {
  std::vector<std::string> names;
  for (auto& row : t.query("SELECT pack_blob FROM packs UNION SELECT index_blob FROM packs UNION "
                           "SELECT blob FROM xorbs UNION SELECT blob FROM attachments"))
    names.push_back(row.text(0));
  return names;
}

void copy_blob(const fs::path& from, const fs::path& to, bool link) {
  fs::create_directories(to.parent_path());
  std::error_code error;
  if (link) fs::create_hard_link(from, to, error);
  if (!link || error) {
    error.clear();
    fs::copy_file(from, to, error);
  }
  if (error)
    throw IoError(from.string() + ": cannot be copied to " + to.string() + ": " + error.message());
}

}  // namespace

GcReport collect_garbage(Hub& hub, bool remembered) {
  FileLock lock(hub.maintenance_lock());
  GcReport report;
  for (int64_t repo : all_repos(hub.database))
    if (auto names = named_objects(hub, repo)) hub.content.keep_only(repo, *names);
  report.content = hub.content.collect(remembered);
  for (int64_t repo : all_repos(hub.database))
    if (hub.git.pack_count(repo) > 1) report.repacked += hub.git.repack(repo, true);
  report.orphan_bytes = hub.git.sweep() + Attachments(hub.database, hub.blobs).sweep();
  return report;
}

std::vector<std::string> check(Hub& hub, bool read_bytes, const Progress& progress) {
  // Nothing that is looked at may be removed meanwhile.
  FileLock lock(hub.maintenance_lock());
  std::vector<std::string> problems;
  auto names = hub.database.read([&](Transaction& t) {
    for (auto& row : t.query("PRAGMA integrity_check"))
      if (row.text(0) != "ok") problems.push_back("hub.db: " + row.text(0));
    return blob_names(t);
  });
  for (size_t i = 0; i < names.size(); ++i) {
    progress("blobs", i, names.size());
    try {
      hub.blobs.size(names[i]);
    } catch (const NotFoundError& error) {
      problems.push_back(error.what());
    }
  }
  auto repos = all_repos(hub.database);
  for (size_t i = 0; i < repos.size(); ++i) {
    progress("repositories", i, repos.size());
    auto repo = hub.repos.find(repos[i]);
    if (!repo) continue;
    auto found = hub.git.fsck(repos[i]);
    if (found.empty()) {
      auto names = named_objects(hub, repos[i]).value_or(std::vector<std::string>());
      for (auto& name : names)
        if (!hub.content.object(repos[i], name))
          found.push_back("its history names object " + name + ", which is not stored");
    }
    for (auto& problem : found) problems.push_back(repo->full_name() + ": " + problem);
  }
  for (auto& problem : hub.content.fsck(read_bytes, [&](uint64_t done, uint64_t total) {
         progress("large files", done, total);
       }))
    problems.push_back(problem);
  return problems;
}

void backup(Hub& hub, const fs::path& target, bool link, const Progress& progress) {
  if (fs::exists(target))
    throw ArgumentError(target.string() + ": exists already; name a new folder");
  FileLock lock(hub.maintenance_lock());
  fs::path partial = target.string() + ".partial";
  fs::remove_all(partial);
  fs::create_directories(partial);
  fs::permissions(partial, fs::perms::owner_all);
  hub.database.backup(partial / "hub.db");
  std::vector<std::string> names;
  {
    Database copy(partial / "hub.db");
    names = copy.read(blob_names);
  }
  for (size_t i = 0; i < names.size(); ++i) {
    progress("blobs", i, names.size());
    copy_blob(hub.blobs.local_path(names[i]), partial / "blobs" / names[i], link);
  }
  sync();
  fs::rename(partial, target);
}

struct Upkeep::State {
  State(Hub& hub, int64_t gc_interval, std::function<void(const std::string&)> report,
        std::chrono::seconds look_around)
      : hub(hub), gc_interval(gc_interval), report(std::move(report)), pause(look_around) {}

  Hub& hub;
  const int64_t gc_interval;
  const std::function<void(const std::string&)> report;
  const std::chrono::seconds pause;
  std::mutex mutex;
  std::condition_variable changed;
  bool stopping = false;
  std::set<int64_t> queued;  // repositories with many packs
  int64_t collected = now_ms();
  std::thread thread;

  // One problem keeps nothing else from being done.
  void attempt(const std::function<void()>& work) {
    try {
      work();
    } catch (const std::exception& error) {
      report(std::string("upkeep: ") + error.what());
    }
  }

  void roll_up(const std::set<int64_t>& repos) {
    attempt([&] {
      FileLock maintenance(hub.maintenance_lock());
      for (int64_t repo : repos)
        attempt([&] {
          if (hub.repos.find(repo) && hub.git.pack_count(repo) > kManyPacks)
            hub.git.repack(repo, false);
        });
    });
  }

  // What nobody told of: by an earlier process, or another one.
  void look_around() {
    attempt([&] { hub.repos.refresh_stale(); });
    if (gc_interval > 0 && now_ms() - collected >= gc_interval * 1000) {
      collected = now_ms();
      attempt([&] { collect_garbage(hub); });
      return;
    }
    attempt([&] {
      auto all = all_repos(hub.database);
      roll_up({all.begin(), all.end()});
    });
  }

  void run() {
    auto next = std::chrono::steady_clock::now() + pause;
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait_until(lock, next, [&] { return stopping || !queued.empty(); });
      if (stopping) return;
      auto repos = std::exchange(queued, {});
      lock.unlock();
      if (!repos.empty()) roll_up(repos);
      if (std::chrono::steady_clock::now() >= next) {
        look_around();
        next = std::chrono::steady_clock::now() + pause;
      }
      lock.lock();
    }
  }
};

Upkeep::Upkeep(Hub& hub, int64_t gc_interval, std::function<void(const std::string&)> report,
               std::chrono::seconds look_around)
    : state_(std::make_unique<State>(hub, gc_interval, std::move(report), look_around)) {
  hub.git.on_many_packs(kManyPacks, [state = state_.get()](int64_t repo) {
    std::lock_guard lock(state->mutex);
    state->queued.insert(repo);
    state->changed.notify_all();
  });
  state_->thread = std::thread([state = state_.get()] { state->run(); });
}

Upkeep::~Upkeep() {
  state_->hub.git.on_many_packs(0, {});
  {
    std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->changed.notify_all();
  state_->thread.join();
}

}  // namespace pretrained::server
