#pragma once
// For this room only: threads that do what is submitted, in that order, a bounded number at a time.

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

namespace pretrained::hub {

class SendPool {
 public:
  // `limit`: tasks that wait or run at once.
  SendPool(int threads, size_t limit) : limit_(limit) {
    for (int i = 0; i < threads; ++i)
      threads_.emplace_back([this](std::stop_token stop) { work(stop); });
  }
  // Waits for a place. What a task threw is thrown from here on.
  std::shared_future<void> submit(std::function<void()> task) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return error_ || busy_ < limit_; });
    if (error_) std::rethrow_exception(error_);
    ++busy_;
    std::packaged_task<void()> packaged(std::move(task));
    auto done = packaged.get_future().share();
    queue_.push_back({std::move(packaged), done});
    changed_.notify_all();
    return done;
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return error_ || busy_ == 0; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  struct Task {
    std::packaged_task<void()> run;
    std::shared_future<void> done;
  };

  void work(std::stop_token stop) {
    for (;;) {
      std::unique_lock lock(mutex_);
      if (!changed_.wait(lock, stop, [&] { return !queue_.empty(); }) || stop.stop_requested())
        return;
      Task task = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      task.run();
      lock.lock();
      --busy_;
      try {
        task.done.get();
      } catch (...) {
        if (!error_) error_ = std::current_exception();
      }
      changed_.notify_all();
    }
  }

  const size_t limit_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Task> queue_;
  size_t busy_ = 0;
  std::exception_ptr error_;
  std::vector<std::jthread> threads_;  // last: stopped and joined first
};

}  // namespace pretrained::hub
