#pragma once
// For this room only: work on bytes in a thread of its own, behind the one that gets them. Belongs
// to one thread.

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace pretrained::server {

class Behind {
 public:
  static constexpr size_t kBuffer = 512 << 10;
  static constexpr uint64_t kAlone = 1 << 20;  // less is not worth a second thread

  explicit Behind(std::function<void(std::string_view)> work);
  ~Behind();  // what is still to be done is left undone

  // An empty buffer of kBuffer bytes, once there is one. Throws what the work threw.
  std::string take();
  // To be worked on: the first `size` bytes of a buffer that take() gave.
  void give(std::string buffer, size_t size);
  // The same for bytes that lie elsewhere.
  void write(std::string_view bytes);
  // All of it is done. Throws what the work threw.
  void finish();

 private:
  void run();
  void stop(bool at_once);

  std::function<void(std::string_view)> work_;
  std::string filling_;  // by write()
  size_t filled_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<std::string, size_t>> full_;
  std::vector<std::string> free_;
  size_t made_ = 0;
  bool done_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace pretrained::server
