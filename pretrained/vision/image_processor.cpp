#include "pretrained/vision/image_processor.h"

#include <cmath>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"

namespace pretrained::vision {
namespace fs = std::filesystem;
namespace {

constexpr int kMaxEdge = 16384;
constexpr int64_t kMaxArea = 4096 * 4096;  // 200 MB of floats
constexpr int kMaxSide = 65535;            // resize() takes no more

// Reads fields of one JSON object; every message names file and field.
class Fields {
 public:
  Fields(const Json& json, std::string source) : json_(json), source_(std::move(source)) {
    if (!json.get_if<Json::Object>())
      throw ConfigError(source_ + ": expected an object, got " + json.kind());
  }
  [[noreturn]] void fail(const std::string& field, const std::string& expected,
                         const Json& found) const {
    throw ConfigError(source_ + ": field '" + field + "': expected " + expected + ", got " +
                      found.kind());
  }
  const Json* find(const std::string& field) const {
    auto* found = json_.find(field);
    return found && found->is_null() ? nullptr : found;
  }
  bool flag(const std::string& field, bool otherwise) const {
    auto* found = find(field);
    if (!found) return otherwise;
    if (auto* value = found->get_if<bool>()) return *value;
    fail(field, "a boolean", *found);
  }
  double number(const std::string& field, const Json& value) const {
    if (auto* integer = value.get_if<int64_t>()) return double(*integer);
    if (auto* number = value.get_if<double>()) return *number;
    fail(field, "a number", value);
  }
  // One that float32 can hold.
  double finite(const std::string& field, const Json& value) const {
    double found = number(field, value);
    if (!std::isfinite(float(found)))
      throw ConfigError(source_ + ": field '" + field + "': expected a finite number, got " +
                        python_repr(found));
    return found;
  }
  int edge(const std::string& field, const Json& value) const {
    auto* integer = value.get_if<int64_t>();
    if (!integer) fail(field, "an integer", value);
    if (*integer < 1 || *integer > kMaxEdge)
      throw ConfigError(source_ + ": field '" + field + "': " + std::to_string(*integer) +
                        " is not in 1 … " + std::to_string(kMaxEdge));
    return int(*integer);
  }
  void three(const std::string& field, std::array<double, 3>& values) const {
    auto* found = find(field);
    if (!found) return;
    auto* items = found->get_if<Json::Array>();
    if (!items || items->size() != 3) fail(field, "a list of 3 numbers", *found);
    for (size_t i = 0; i < 3; ++i) values[i] = finite(field, (*items)[i]);
  }
  // Pictures are divided by these.
  void divisors(const std::string& field, std::array<double, 3>& values) const {
    three(field, values);
    for (double value : values)
      if (float(value) == 0)
        throw ConfigError(source_ + ": field '" + field + "': expected numbers other than 0, got " +
                          python_repr(value));
  }
  std::string text(const std::string& field, const std::string& otherwise) const {
    auto* found = find(field);
    if (!found) return otherwise;
    if (auto* value = found->get_if<std::string>()) return *value;
    fail(field, "a string", *found);
  }
  const std::string& source() const { return source_; }

 private:
  const Json& json_;
  std::string source_;
};

Interpolation pil_filter(const Fields& fields, int64_t resample) {
  switch (resample) {
    case 1:
      return Interpolation::lanczos;
    case 2:
      return Interpolation::bilinear;
    case 3:
      return Interpolation::bicubic;
    case 4:
      return Interpolation::box;
    case 5:
      return Interpolation::hamming;
    default:
      throw ConfigError(
          fields.source() + ": field 'resample': " + std::to_string(resample) +
          " is not one of 1 (Lanczos), 2 (bilinear), 3 (bicubic), 4 (box), 5 (Hamming)");
  }
}

int pil_number(Interpolation interpolation) {
  switch (interpolation) {
    case Interpolation::lanczos:
      return 1;
    case Interpolation::bilinear:
      return 2;
    case Interpolation::bicubic:
      return 3;
    case Interpolation::box:
      return 4;
    default:
      return 5;
  }
}

Interpolation named_filter(const Fields& fields, const std::string& name) {
  if (name == "bilinear") return Interpolation::bilinear;
  if (name == "bicubic") return Interpolation::bicubic;
  if (name == "lanczos") return Interpolation::lanczos;
  if (name == "box") return Interpolation::box;
  if (name == "hamming") return Interpolation::hamming;
  throw ConfigError(fields.source() + ": field 'interpolation': unknown '" + printable(name, 40) +
                    "'");
}

// A window of the image; what lies outside is black.
Image crop(const Image& image, int top, int left, int height, int width) {
  Image out{width, height, 3, std::vector<uint8_t>(size_t(width) * size_t(height) * 3)};
  int first = std::max(0, -left), last = std::min(width, image.width - left);
  for (int y = 0; y < height && first < last; ++y) {
    if (y + top < 0 || y + top >= image.height) continue;
    auto from = image.pixels.begin() + (std::ptrdiff_t(y + top) * image.width + left + first) * 3;
    std::copy(from, from + std::ptrdiff_t(last - first) * 3,
              out.pixels.begin() + (std::ptrdiff_t(y) * width + first) * 3);
  }
  return out;
}

// Python's round(): halves go to the even neighbour.
int round_half_even(double value) { return int(std::nearbyint(value)); }

// torchvision's center_crop: pads a picture that is smaller first, then cuts.
Image cut_center(Image image, int height, int width) {
  if (width > image.width || height > image.height) {
    int left = width > image.width ? (width - image.width) / 2 : 0,
        top = height > image.height ? (height - image.height) / 2 : 0;
    image = crop(image, -top, -left, std::max(height, image.height), std::max(width, image.width));
    if (width == image.width && height == image.height) return image;
  }
  return crop(image, round_half_even((image.height - height) / 2.0),
              round_half_even((image.width - width) / 2.0), height, width);
}

}  // namespace

ImageProcessor& ImageProcessor::resize_shortest_edge(int pixels) {
  shortest_edge_ = pixels;
  return *this;
}

ImageProcessor& ImageProcessor::resize_to(int height, int width) {
  shortest_edge_ = 0;
  height_ = height;
  width_ = width;
  return *this;
}

ImageProcessor& ImageProcessor::center_crop(int height, int width) {
  do_center_crop = true;
  crop_height_ = height;
  crop_width_ = width;
  return *this;
}

ImageProcessor ImageProcessor::from_json(const Json& json, const std::string& source) {
  Fields fields(json, source);
  ImageProcessor p;
  p.source_ = source;
  p.do_resize = fields.flag("do_resize", true);
  p.do_rescale = fields.flag("do_rescale", true);
  p.do_normalize = fields.flag("do_normalize", true);
  if (auto* factor = fields.find("rescale_factor"))
    p.rescale_factor = fields.finite("rescale_factor", *factor);
  if (auto* resample = fields.find("resample")) {
    auto* filter = resample->get_if<int64_t>();
    if (!filter) fields.fail("resample", "an integer", *resample);
    p.interpolation = pil_filter(fields, *filter);
  }
  fields.three("image_mean", p.mean);
  fields.divisors("image_std", p.std);
  if (auto* size = fields.find("size")) {
    auto *edge = size->find("shortest_edge"), *height = size->find("height"),
         *width = size->find("width");
    if (edge)
      p.resize_shortest_edge(fields.edge("size.shortest_edge", *edge));
    else if (height && width)
      p.resize_to(fields.edge("size.height", *height), fields.edge("size.width", *width));
    else if (size->get_if<int64_t>())
      p.resize_to(fields.edge("size", *size), fields.edge("size", *size));
    else
      fields.fail("size", "an integer, shortest_edge, or height and width", *size);
  }
  if (auto* size = fields.find("crop_size"); size && fields.flag("do_center_crop", true)) {
    auto *height = size->find("height"), *width = size->find("width");
    if (height && width)
      p.center_crop(fields.edge("crop_size.height", *height),
                    fields.edge("crop_size.width", *width));
    else
      p.center_crop(fields.edge("crop_size", *size), fields.edge("crop_size", *size));
  }
  // ConvNeXt's rule: below 384 pixels, scale to size / crop_pct and cut the middle.
  if (auto* pct = fields.find("crop_pct"); pct && p.shortest_edge_ > 0 && p.shortest_edge_ < 384) {
    int edge = p.shortest_edge_;
    double part = fields.number("crop_pct", *pct);
    if (!(part > 0.05 && part <= 1))
      throw ConfigError(source + ": field 'crop_pct': " + python_repr(part) +
                        " is not in (0.05, 1]");
    p.resize_shortest_edge(int(edge / part)).center_crop(edge, edge);
  }
  p.check_area();
  return p;
}

ImageProcessor ImageProcessor::from_timm(const Json& json, const std::string& source) {
  Fields fields(json, source);
  ImageProcessor p;
  p.source_ = source;
  p.interpolation = named_filter(fields, fields.text("interpolation", "bicubic"));
  fields.three("mean", p.mean);
  fields.divisors("std", p.std);
  int height = 224, width = 224;
  if (auto* size = fields.find("input_size")) {
    auto* items = size->get_if<Json::Array>();
    if (!items || items->size() != 3) fields.fail("input_size", "a list of 3 integers", *size);
    height = fields.edge("input_size", (*items)[1]);
    width = fields.edge("input_size", (*items)[2]);
  }
  double part =
      fields.find("crop_pct") ? fields.number("crop_pct", *fields.find("crop_pct")) : 0.875;
  if (!(part > 0.05 && part <= 2))
    throw ConfigError(source + ": field 'crop_pct': " + python_repr(part) + " is not in (0.05, 2]");
  std::string mode = fields.text("crop_mode", "center");
  int scaled_height = int(std::floor(height / part)), scaled_width = int(std::floor(width / part));
  if (mode == "squash")
    p.resize_to(scaled_height, scaled_width);
  else if (mode != "center")
    throw ConfigError(source + ": field 'crop_mode': '" + printable(mode, 40) +
                      "' is not 'center' or 'squash'");
  else if (height == width)
    p.resize_shortest_edge(scaled_height);
  else
    throw ConfigError(
        source +
        ": field 'input_size': centre crops of pictures that are not square are not supported");
  p.center_crop(height, width);
  p.check_area();
  return p;
}

ImageProcessor ImageProcessor::from_pretrained(const fs::path& folder) {
  fs::path file = folder / "preprocessor_config.json";
  if (fs::exists(file))
    return from_json(Json::parse(read_inside(folder, "preprocessor_config.json"), file.string()),
                     file.string());
  if (fs::path config_file = folder / "config.json"; fs::exists(config_file)) {
    Json config = Json::parse(read_inside(folder, "config.json"), config_file.string());
    if (auto* cfg = config.find("pretrained_cfg"))
      return from_timm(*cfg, config_file.string() + ": pretrained_cfg");
  }
  throw NotFoundError(folder.string() +
                      ": no preprocessor_config.json, nor pretrained_cfg in config.json: how the "
                      "model's images are prepared is unknown. Write one: vision::ImageProcessor()"
                      ".resize_shortest_edge(256).center_crop(224, 224).save_pretrained(folder)");
}

void ImageProcessor::check_area() const {
  auto check = [&](const std::string& field, int64_t height, int64_t width) {
    if (height * width > kMaxArea)
      throw ConfigError(source_ + ": field '" + field + "': " + std::to_string(height) + " × " +
                        std::to_string(width) + " pixels, at most " + std::to_string(kMaxArea));
  };
  shortest_edge_ > 0 ? check("size.shortest_edge", shortest_edge_, shortest_edge_)
                     : check("size", height_, width_);
  if (do_center_crop) check("crop_size", crop_height_, crop_width_);
}

void ImageProcessor::save_pretrained(const fs::path& folder) const {
  auto three = [](const std::array<double, 3>& values) {
    return Json::Array{values[0], values[1], values[2]};
  };
  Json::Object json{{"do_resize", do_resize},
                    {"do_center_crop", do_center_crop},
                    {"do_rescale", do_rescale},
                    {"do_normalize", do_normalize},
                    {"do_convert_rgb", true},
                    {"rescale_factor", rescale_factor},
                    {"image_mean", three(mean)},
                    {"image_std", three(std)},
                    {"resample", pil_number(interpolation)},
                    {"image_processor_type", "BitImageProcessor"}};
  if (shortest_edge_ > 0)
    json["size"] = Json::Object{{"shortest_edge", shortest_edge_}};
  else
    json["size"] = Json::Object{{"height", height_}, {"width", width_}};
  if (do_center_crop)
    json["crop_size"] = Json::Object{{"height", crop_height_}, {"width", crop_width_}};
  fs::create_directories(folder);
  write_file_atomically(folder / "preprocessor_config.json", Json(json).dump() + "\n");
}

std::pair<int64_t, int64_t> ImageProcessor::output_size() const {
  if (do_center_crop) return {crop_height_, crop_width_};
  if (do_resize && shortest_edge_ == 0) return {height_, width_};
  throw ConfigError(source_ +
                    ": the size of the result depends on the picture: it needs "
                    "crop_size, or size with height and width");
}

Image ImageProcessor::resized(const Image& image) const {
  if (image.width > kMaxSide || image.height > kMaxSide)
    throw FormatError("an image of " + std::to_string(image.width) + " × " +
                      std::to_string(image.height) + " pixels: at most " +
                      std::to_string(kMaxSide) + " a side can be scaled");
  int64_t width = width_, height = height_;
  if (shortest_edge_ > 0) {
    bool wide = image.width > image.height;
    int64_t shorter = wide ? image.height : image.width, longer = wide ? image.width : image.height;
    int64_t scaled = int64_t(double(int64_t(shortest_edge_) * longer) / double(shorter));
    width = wide ? scaled : shortest_edge_;
    height = wide ? shortest_edge_ : scaled;
  }
  if (width < 1 || height < 1 || width > 65535 || height > 65535 || width * height > 178'956'970)
    throw FormatError("an image of " + std::to_string(image.width) + " × " +
                      std::to_string(image.height) + " would be scaled to " +
                      std::to_string(width) + " × " + std::to_string(height));
  if (width == image.width && height == image.height) return image;
  return {
      int(width), int(height), 3,
      resize(image.pixels, image.width, image.height, 3, int(width), int(height), interpolation)};
}

Image ImageProcessor::preprocess_image(const Image& image) const {
  if (image.channels != 3 || image.width < 1 || image.height < 1 ||
      image.pixels.size() != size_t(image.width) * size_t(image.height) * 3)
    throw ArgumentError("an image of 3 channels is needed");
  Image result = do_resize ? resized(image) : image;
  return do_center_crop ? cut_center(std::move(result), crop_height_, crop_width_) : result;
}

std::vector<float> ImageProcessor::preprocess(const Image& image) const {
  Image picture = preprocess_image(image);
  size_t plane = size_t(picture.width) * size_t(picture.height);
  std::vector<float> values(plane * 3);
  bool usual = rescale_factor == 1.0 / 255;  // torchvision divides; a factor rounds differently
  for (size_t c = 0; c < 3; ++c)
    for (size_t i = 0; i < plane; ++i) {
      auto value = float(picture.pixels[i * 3 + c]);
      if (do_rescale) value = usual ? value / 255.0f : float(double(value) * rescale_factor);
      if (do_normalize) value = (value - float(mean[c])) / float(std[c]);
      values[c * plane + i] = value;
    }
  return values;
}

}  // namespace pretrained::vision
