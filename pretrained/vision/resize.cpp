#include "pretrained/vision/resize.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include <string>
#include "pretrained/base/error.h"

namespace pretrained::vision {
namespace {

constexpr int kPrecisionBits = 22;

struct Filter {
  double support;
  double (*weight)(double);
};

double bilinear(double x) { return std::abs(x) < 1.0 ? 1.0 - std::abs(x) : 0.0; }

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

double sinc(double x) { return x == 0.0 ? 1.0 : std::sin(x * M_PI) / (x * M_PI); }
double lanczos(double x) { return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }
double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double hamming(double x) {
  x = std::abs(x);
  if (x == 0.0) return 1.0;
  if (x >= 1.0) return 0.0;
  x *= M_PI;
  return std::sin(x) / x * (0.54f + 0.46f * std::cos(x));
}

Filter filter(Interpolation interpolation) {
  switch (interpolation) {
    case Interpolation::bilinear:
      return {1, bilinear};
    case Interpolation::bicubic:
      return {2, bicubic};
    case Interpolation::lanczos:
      return {3, lanczos};
    case Interpolation::box:
      return {0.5, box};
    case Interpolation::hamming:
      return {1, hamming};
  }
  throw ArgumentError("resize: unknown interpolation");
}

struct Window {
  int first;
  std::vector<int32_t> weights;  // fixed point, kPrecisionBits
};

std::vector<Window> windows(int in, int out, Filter f) {
  const double scale = double(in) / out, filter_scale = std::max(scale, 1.0),
               support = f.support * filter_scale;
  std::vector<Window> result(out);
  std::vector<double> weights;
  for (int o = 0; o < out; ++o) {
    const double center = (o + 0.5) * scale, step = 1.0 / filter_scale;
    const int first = std::max(int(center - support + 0.5), 0),
              last = std::min(int(center + support + 0.5), in);
    weights.assign(last - first, 0);
    double sum = 0;
    for (int i = first; i < last; ++i)
      sum += weights[i - first] = f.weight((i - center + 0.5) * step);
    result[o].first = first;
    for (double w : weights) {
      if (sum != 0.0) w /= sum;
      const double fixed = w * (1 << kPrecisionBits);
      result[o].weights.push_back(int(w < 0 ? fixed - 0.5 : fixed + 0.5));
    }
  }
  return result;
}

// Filters one axis: each of `lines` lines has entries `stride` bytes apart; `inner` neighbours
// share a window.
std::vector<uint8_t> pass(const std::vector<uint8_t>& in, size_t lines, size_t in_length,
                          size_t inner, const std::vector<Window>& axis) {
  std::vector<uint8_t> out(lines * axis.size() * inner);
  std::vector<int> sums(inner);
  uint8_t* to = out.data();
  for (size_t line = 0; line < lines; ++line)
    for (const Window& window : axis) {
      std::fill(sums.begin(), sums.end(), 1 << (kPrecisionBits - 1));
      const uint8_t* from = in.data() + (line * in_length + window.first) * inner;
      for (int weight : window.weights)
        for (size_t i = 0; i < inner; ++i) sums[i] += *from++ * weight;
      for (int sum : sums) *to++ = uint8_t(std::clamp(sum >> kPrecisionBits, 0, 255));
    }
  return out;
}

void check(const char* name, int value, int limit) {
  if (value < 1 || value > limit)
    throw ArgumentError("resize: " + std::string(name) + ": expected 1.." + std::to_string(limit) +
                        ", got " + std::to_string(value));
}

}  // namespace

std::vector<uint8_t> resize(const std::vector<uint8_t>& pixels, int width, int height, int channels,
                            int new_width, int new_height, Interpolation interpolation) {
  check("width", width, 65535), check("height", height, 65535), check("channels", channels, 4);
  check("new_width", new_width, 65535), check("new_height", new_height, 65535);
  const size_t expected = size_t(width) * height * channels;
  if (pixels.size() != expected)
    throw ArgumentError("resize: pixels: expected " + std::to_string(expected) + " bytes, got " +
                        std::to_string(pixels.size()));
  const Filter f = filter(interpolation);
  auto horizontal = [&](const std::vector<uint8_t>& in, int rows) {
    return new_width == width ? in : pass(in, rows, width, channels, windows(width, new_width, f));
  };
  auto vertical = [&](const std::vector<uint8_t>& in, int columns) {
    return new_height == height
               ? in
               : pass(in, 1, height, size_t(columns) * channels, windows(height, new_height, f));
  };
  // Pillow 13 shrinks the vertical axis first when that leaves less work; rounding makes the order
  // visible.
  const bool vertical_first = height > new_height && height - new_height > 2 * (width - new_width);
  return vertical_first ? horizontal(vertical(pixels, width), new_height)
                        : vertical(horizontal(pixels, height), new_width);
}

}  // namespace pretrained::vision
