#include "pretrained/hub/downloader.h"

#include <algorithm>
#include <condition_variable>
#include <thread>

#include "pretrained/hub/errors.h"
#include "pretrained/hub/settings.h"
#include "pretrained/hub/xet_download.h"

namespace pretrained::hub {
namespace {

constexpr uint64_t kPiece = 16 << 20;
constexpr uint64_t kMaxPlain = 50'000'000'000;  // what huggingface.co gives without Xet
constexpr uint64_t kMark = 4 << 20;             // what a killed process loses of a piece at most

// One file on its way; its lock is held as long as this lives.
struct Job {
  const Wanted& wanted;
  Source source;
  FileDescriptor lock;
  PartFile part;
  std::deque<Range> pieces;  // that nobody has taken
  int running = 0;           // workers that are at it
  bool whole = false;        // the server ignores ranges: one worker takes everything
};

// Marks what one worker writes as done, in steps.
class PieceWriter {
 public:
  PieceWriter(Job& job, Progress& progress) : job_(job), progress_(progress) {}
  ~PieceWriter() {
    try {
      flush();
    } catch (const std::exception&) {  // then it comes again
    }
  }

  void write(uint64_t offset, std::string_view bytes) {
    if (offset != end_ || end_ - begin_ >= kMark) {
      flush();
      begin_ = end_ = offset;
    }
    job_.part.write(offset, bytes);
    end_ += bytes.size();
    auto& file = job_.wanted.file;
    progress_.add(file.path, bytes.size(), job_.part.done_bytes() + end_ - begin_, file.size);
  }

  void flush() {
    if (begin_ < end_) job_.part.mark_done({begin_, end_});
    begin_ = end_;
  }

 private:
  Job& job_;
  Progress& progress_;
  uint64_t begin_ = 0, end_ = 0;
};

class Downloader {
 public:
  Downloader(const DownloadPlan& plan, Destination& destination, Progress& progress)
      : plan_(plan),
        destination_(destination),
        progress_(progress),
        xet_(plan.client, plan.repo, plan.commit) {}

  void run() {
    std::vector<std::thread> threads;
    for (int i = 1; i < std::clamp(plan_.workers, 1, 64); ++i)
      threads.emplace_back([this] { work(); });
    work();
    for (auto& thread : threads) thread.join();
    progress_.rethrow();
  }

 private:
  struct Task {
    std::shared_ptr<Job> job;
    Range range;
  };

  void work() {
    try {
      while (auto task = next()) {
        run_piece(*task->job, task->range);
        settle(task->job);
      }
    } catch (const Stopped&) {
    } catch (...) {
      progress_.fail(std::current_exception());
      std::lock_guard lock(mutex_);
      changed_.notify_all();
    }
  }

  // A piece of a file that is under way, else a new file; nothing when all is done. Nobody waits
  // for a lock while pieces of locked files lie about, so two processes never wait for each other.
  std::optional<Task> next() {
    std::unique_lock lock(mutex_);
    for (;;) {
      progress_.check();
      for (auto& job : jobs_)
        if (!job->pieces.empty()) {
          Task task{job, job->pieces.front()};
          job->pieces.pop_front();
          ++job->running;
          return task;
        }
      if (next_ == plan_.wanted.size()) {
        if (jobs_.empty() && opening_ == 0) return std::nullopt;
        changed_.wait(lock);  // a file may start again from zero
        continue;
      }
      const Wanted& wanted = plan_.wanted[next_++];
      ++opening_;
      lock.unlock();
      auto job = open(wanted);
      lock.lock();
      --opening_;
      if (job) jobs_.push_back(job);
      changed_.notify_all();
    }
  }

  // Nothing where the file needs no bytes (any more).
  std::shared_ptr<Job> open(const Wanted& wanted) {
    bool told = false;
    FileDescriptor lock = destination_.lock(wanted, [&] {
      progress_.check();
      if (!std::exchange(told, true))
        progress_.notice(wanted.file.path + ": another process is downloading it; waiting");
    });
    const RemoteFile& file = wanted.file;
    if (!plan_.force && destination_.reuse(wanted)) {
      discard_part(destination_.part_base(wanted));
      progress_.add(file.path, file.size, file.size, file.size);
      for (auto& path : wanted.paths) progress_.finished(path, file.size, "cached");
      return nullptr;
    }
    auto job = std::shared_ptr<Job>(
        new Job{wanted,
                source_of(file),
                std::move(lock),
                PartFile(destination_.part_base(wanted), file.etag(), file.size),
                {}});
    auto pieces = job->part.missing(kPiece);
    job->pieces.assign(pieces.begin(), pieces.end());
    uint64_t done = job->part.done_bytes();
    progress_.add(file.path, done, done, file.size);
    if (!pieces.empty()) return job;
    job->running = 1;
    settle(job);
    return job->pieces.empty() ? nullptr : job;
  }

  Source source_of(const RemoteFile& file) const {
    std::string url = plan_.client.web_url(plan_.repo) + "/resolve/" + plan_.commit + "/" +
                      url_encode(file.path, true);
    std::string what =
        plan_.repo.id + "@" + plan_.commit.substr(0, 12) + ": " + printable(file.path);
    return {url, what, plan_.commit, file};
  }

  bool through_xet(const RemoteFile& file) const {
    return (plan_.xet || file.size > kMaxPlain) && !file.xet_hash.empty() && !no_xet_;
  }

  void run_piece(Job& job, Range range) {
    PieceWriter writer(job, progress_);
    FetchCallbacks callbacks;
    callbacks.write = [&](uint64_t offset, std::string_view bytes) { writer.write(offset, bytes); };
    callbacks.received = [&](uint64_t bytes) { progress_.received(bytes); };
    callbacks.check = [&] { progress_.check(); };
    callbacks.take_whole = [&] {
      std::lock_guard lock(mutex_);
      job.pieces.clear();
      return !std::exchange(job.whole, true);
    };
    if (through_xet(job.wanted.file))
      xet_.fetch(job.source, range, callbacks);
    else
      fetch(plan_.client.http(), job.source, range, callbacks);
    writer.flush();
    job.part.hash_ahead();
  }

  // Whoever finishes the last piece checks and places the file.
  void settle(const std::shared_ptr<Job>& job) {
    {
      std::lock_guard lock(mutex_);
      if (--job->running > 0 || !job->pieces.empty()) return;
    }
    bool done = finish(*job);
    std::lock_guard lock(mutex_);
    if (done) std::erase(jobs_, job);
    changed_.notify_all();
  }

  bool finish(Job& job) {
    const RemoteFile& file = job.wanted.file;
    std::string hash = job.part.hash();
    if (hash != file.etag()) return start_again(job, hash);
    destination_.place(job.wanted, job.part);
    for (auto& path : job.wanted.paths) progress_.finished(path, file.size, "downloaded");
    return true;
  }

  // What an earlier process left may have been wrong; what all came now must not be.
  bool start_again(Job& job, const std::string& hash) {
    if (!job.part.resumed()) {
      job.part.remove();
      throw IntegrityError(job.source.what + ": the bytes that came have the hash " + hash +
                           ", the commit says " + job.wanted.file.etag() +
                           "; they are thrown away");
    }
    progress_.notice(job.wanted.file.path + ": what was there is damaged; starting again");
    progress_.take_back(job.part.done_bytes());
    job.part.restart();
    std::lock_guard lock(mutex_);
    job.whole = false;
    auto pieces = job.part.missing(kPiece);
    job.pieces.assign(pieces.begin(), pieces.end());
    return false;
  }

  const DownloadPlan& plan_;
  Destination& destination_;
  Progress& progress_;
  XetReader xet_;
  const bool no_xet_ = is_true("HF_HUB_DISABLE_XET");
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Job>> jobs_;  // under way
  size_t next_ = 0;                         // of plan_.wanted
  int opening_ = 0;
};

}  // namespace

void download_all(const DownloadPlan& plan, Destination& destination, Progress& progress) {
  if (!plan.wanted.empty()) Downloader(plan, destination, progress).run();
}

}  // namespace pretrained::hub
