#pragma once
// From a picture to a model's input: resize, centre crop, rescale, normalise. The numbers are those
// of timm's evaluation transform (torchvision on PIL images): the 8-bit picture is equal bit for
// bit, the floats to the last digit of float32. Parameters come from preprocessor_config.json
// (Transformers) or `pretrained_cfg` of a timm config.json. Threads: an ImageProcessor is plain
// data; const calls may run at once.

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "pretrained/base/json.h"
#include "pretrained/vision/image.h"
#include "pretrained/vision/resize.h"

namespace pretrained::vision {

class PRETRAINED_API ImageProcessor {
 public:
  ImageProcessor() = default;
  // Throws NotFoundError where the folder has neither file, ConfigError naming file and field. A
  // picture is scaled and cut to 4096² pixels at most.
  static ImageProcessor from_pretrained(const std::filesystem::path& folder);
  static ImageProcessor from_json(const Json& preprocessor_config, const std::string& source);
  // timm's resolve_data_config + create_transform(is_training=False).
  static ImageProcessor from_timm(const Json& pretrained_cfg, const std::string& source);
  // Writes preprocessor_config.json, which Transformers reads too.
  void save_pretrained(const std::filesystem::path& folder) const;

  // Scaled so that the shorter edge is `pixels`, aspect kept.
  ImageProcessor& resize_shortest_edge(int pixels);
  ImageProcessor& resize_to(int height, int width);
  ImageProcessor& center_crop(int height, int width);

  // What the model would see, before it becomes floats.
  Image preprocess_image(const Image& image) const;
  // [3, height, width] in float32.
  std::vector<float> preprocess(const Image& image) const;
  // The size of the result. ConfigError where it depends on the picture: such a processor cannot
  // make batches.
  int64_t output_height() const { return output_size().first; }
  int64_t output_width() const { return output_size().second; }

  Interpolation interpolation = Interpolation::bicubic;
  std::array<double, 3> mean = {0.485, 0.456, 0.406}, std = {0.229, 0.224, 0.225};
  double rescale_factor = 1.0 / 255;
  bool do_resize = true, do_center_crop = false, do_rescale = true, do_normalize = true;

 private:
  std::pair<int64_t, int64_t> output_size() const;
  Image resized(const Image& image) const;
  void check_area() const;

  std::string source_ = "the image processor";  // where it was read, for messages
  int shortest_edge_ = 224;                     // 0: height_ and width_ say the size
  int height_ = 0, width_ = 0;
  int crop_height_ = 0, crop_width_ = 0;
};

}  // namespace pretrained::vision
