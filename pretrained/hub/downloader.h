#pragma once
// Many files at once: every worker takes the next piece of the next file, so that one large file is
// fetched over several connections and many small ones side by side.

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pretrained/hub/fetch.h"
#include "pretrained/hub/progress.h"

namespace pretrained::hub {

// Files of a commit with the same bytes: fetched once.
struct Wanted {
  RemoteFile file;                 // the first of them
  std::vector<std::string> paths;  // all
};

// Where the files go: the cache, or a folder of one's own.
class Destination {
 public:
  virtual ~Destination() = default;
  virtual FileDescriptor lock(const Wanted& wanted, const std::function<void()>& on_wait) = 0;
  // Under the lock: makes it visible from what is on this disk, where another process was faster;
  // false where its bytes must come.
  virtual bool reuse(const Wanted& wanted) = 0;
  // What the names of the part begin with.
  virtual std::filesystem::path part_base(const Wanted& wanted) = 0;
  // Under the lock: makes the whole and checked part visible at all its paths.
  virtual void place(const Wanted& wanted, PartFile& part) = 0;
};

struct DownloadPlan {
  const HubClient& client;
  Repo repo;
  std::string commit;
  std::vector<Wanted> wanted;
  int workers = 8;
  bool force = false;
  bool xet = false;
};

// Returns when all are placed; throws the first error after everybody has stopped.
void download_all(const DownloadPlan& plan, Destination& destination, Progress& progress);

}  // namespace pretrained::hub
