// Reads "width height channels new_width new_height filter\n" and the pixels on stdin, writes the
// resized pixels.
#include <cstdio>
#include <exception>

#include "pretrained/vision/resize.h"

int main() {
  int w, h, c, nw, nh, filter;
  if (std::scanf("%d %d %d %d %d %d", &w, &h, &c, &nw, &nh, &filter) != 6 || std::getchar() != '\n')
    return 2;
  std::vector<uint8_t> in;
  for (int b; (b = std::getchar()) != EOF;) in.push_back(uint8_t(b));
  try {
    const auto out =
        pretrained::vision::resize(in, w, h, c, nw, nh, pretrained::vision::Interpolation(filter));
    return std::fwrite(out.data(), 1, out.size(), stdout) == out.size() ? 0 : 1;
  } catch (const std::exception& e) {
    return std::fprintf(stderr, "%s\n", e.what()), 5;
  }
}
