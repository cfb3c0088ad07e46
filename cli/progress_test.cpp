#include "progress.h"

#include <gtest/gtest.h>
#include <pty.h>
#include <unistd.h>

#include <thread>

namespace pretrained::cli {
namespace {

using Kind = hub::TransferEvent::Kind;

TEST(Text, Sizes) {
  EXPECT_EQ(size_text(0), "0 B");
  EXPECT_EQ(size_text(999), "999 B");
  EXPECT_EQ(size_text(1000), "1.0 kB");
  EXPECT_EQ(size_text(999'949), "999.9 kB");
  EXPECT_EQ(size_text(999'950), "1.0 MB");
  EXPECT_EQ(size_text(2'900'000'000), "2.9 GB");
  EXPECT_EQ(size_text(UINT64_MAX), "18446.7 PB");
}

TEST(Text, Durations) {
  EXPECT_EQ(duration_text(0.4), "0:00");
  EXPECT_EQ(duration_text(61), "1:01");
  EXPECT_EQ(duration_text(3599.6), "1:00:00");
  EXPECT_EQ(duration_text(1e300), "99:59:59");
  EXPECT_EQ(duration_text(-1), "0:00");
}

TEST(Text, Percents) {
  EXPECT_EQ(percent_text(0, 0), "100%");
  EXPECT_EQ(percent_text(1, 3), " 33%");
  EXPECT_EQ(percent_text(999, 1000), " 99%");
  EXPECT_EQ(percent_text(7, 3), "100%");
}

TEST(Text, ShortenedKeepsTheEnd) {
  EXPECT_EQ(shortened("model.safetensors", 17), "model.safetensors");
  EXPECT_EQ(shortened("model-00001-of-00004.safetensors", 16), "model-0…etensors");
  EXPECT_EQ(shortened("abc", 1), ".");
  EXPECT_EQ(shortened("abc", 0), "");
  for (size_t columns = 2; columns < 20; ++columns) {
    std::string text = shortened("データ/模型/权重-largé.bin", columns);
    EXPECT_LE(width_of(text), columns);
    EXPECT_GE(width_of(text) + 2, columns) << text;
  }
}

// Standard error is a terminal of some size while `act` runs; what was written to it.
std::string on_terminal(unsigned short columns, unsigned short rows,
                        const std::function<void()>& act) {
  unsetenv("HF_HUB_DISABLE_PROGRESS_BARS");
  setenv("TERM", "xterm", 1);
  winsize size{};
  size.ws_col = columns, size.ws_row = rows;
  int master = -1, slave = -1;
  if (openpty(&master, &slave, nullptr, nullptr, &size) != 0) return "no pty";
  std::string output;
  std::thread reader([&] {
    char buffer[4096];
    for (ssize_t n; (n = read(master, buffer, sizeof buffer)) > 0;)
      output.append(buffer, size_t(n));
  });
  std::fflush(stderr);
  int before = dup(2);
  dup2(slave, 2);
  close(slave);
  act();
  std::fflush(stderr);
  dup2(before, 2);
  close(before);
  reader.join();
  close(master);
  return output;
}

// Each line between the controls, without colours.
std::vector<std::string> lines_of(const std::string& output) {
  std::vector<std::string> lines{""};
  for (size_t i = 0; i < output.size(); ++i) {
    if (output[i] == '\033') {
      while (i < output.size() && !std::isalpha(static_cast<unsigned char>(output[i]))) ++i;
    } else if (output[i] == '\r' || output[i] == '\n') {
      lines.emplace_back();
    } else {
      lines.back() += output[i];
    }
  }
  return lines;
}

void run_many_files() {
  TransferProgress progress("downloading", false);
  for (uint64_t step = 0; step < 6; ++step) {
    for (int file = 0; file < 9; ++file) {
      hub::TransferEvent event;
      event.file = "a/very/long/name/of/a/folder/\x1b[2J-\xe6\xa8\xa1\xe5\x9e\x8b-" +
                   std::to_string(file) + ".safetensors";
      event.done = step * 500'000, event.total = 3'000'000;
      event.all_done = event.done * 9, event.all_total = 27'000'000;
      event.files_total = 9;
      progress.update(event);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(120));
  }
  progress.clear();
}

TEST(TransferProgress, NoLineIsWiderThanTheTerminal) {
  for (unsigned short columns : {8, 40, 90})
    for (auto& line : lines_of(on_terminal(columns, 24, run_many_files)))
      EXPECT_LT(width_of(line), columns) << line;
}

TEST(TransferProgress, ManyFilesOnOneScreen) {
  std::string output = on_terminal(100, 24, run_many_files);
  EXPECT_NE(output.find("downloading ["), output.npos);
  EXPECT_NE(output.find("and 4 more"), output.npos);
  EXPECT_EQ(output.find("\033[2J"), output.npos);  // a name cannot clear the screen
  EXPECT_NE(output.find("\\x1b"), output.npos);
  EXPECT_TRUE(output.ends_with("\033[J"));
}

TEST(TransferProgress, ALowTerminalShowsLess) {
  std::string output = on_terminal(100, 3, run_many_files);
  EXPECT_EQ(output.find("and 4 more"), output.npos);
  EXPECT_NE(output.find("downloading ["), output.npos);
  EXPECT_EQ(output.find("\033[2A"), output.npos);  // two lines: never more than one up
}

TEST(TransferProgress, AFileIsShownWhereItGotTo) {
  std::string output = on_terminal(100, 24, [] {
    TransferProgress progress("uploading", false);
    for (uint64_t done : {0, 2'000'000, 0, 3'000'000}) {  // hashed, sent, sent again
      hub::TransferEvent event{.file = "a.bin", .done = done, .total = 3'000'000};
      event.all_total = event.total, event.files_total = 1;
      std::this_thread::sleep_for(std::chrono::milliseconds(120));
      progress.update(event);
    }
    hub::TransferEvent event{.kind = Kind::finished, .file = "a.bin", .done = 3'000'000};
    progress.update(event);
    event.kind = Kind::progress, event.total = 3'000'000;  // the network is still busy
    std::this_thread::sleep_for(std::chrono::milliseconds(120));
    progress.update(event);
  });
  auto lines = lines_of(output);
  std::vector<std::string> files;
  for (auto& line : lines)
    if (line.starts_with("  a.bin")) files.push_back(line);
  EXPECT_EQ(files, (std::vector<std::string>{
                       "  a.bin   0%  0 B / 3.0 MB", "  a.bin  66%  2.0 MB / 3.0 MB",
                       "  a.bin  66%  2.0 MB / 3.0 MB", "  a.bin 100%  3.0 MB / 3.0 MB"}));
}

TEST(TransferProgress, NothingWhenQuiet) {
  std::string output = on_terminal(80, 24, [] {
    TransferProgress progress("downloading", true);
    hub::TransferEvent event;
    event.kind = Kind::notice;
    event.text = "a notice";
    progress.update(event);
  });
  EXPECT_EQ(output, "");
}

}  // namespace
}  // namespace pretrained::cli
