// swift-tools-version: 5.9
import Foundation
import PackageDescription

// SwiftPM wants the manifest at the root of the repository; what it describes lies in bindings/swift.
//
// CTern is the C header. On Linux, and on a Mac with the library installed, pkg-config finds it. For an app set
// TERN_XCFRAMEWORK to what scripts/xcframework.sh built, relative to this folder.
let swift = "bindings/swift"
let cTern: Target
if let framework = ProcessInfo.processInfo.environment["TERN_XCFRAMEWORK"] {
    cTern = .binaryTarget(name: "CTern", path: framework)
} else {
    cTern = .systemLibrary(name: "CTern", path: "\(swift)/Sources/CTern", pkgConfig: "tern")
}

let package = Package(
    name: "tern",
    platforms: [.iOS(.v13), .macOS(.v10_15), .tvOS(.v13), .watchOS(.v6)],
    products: [.library(name: "Tern", targets: ["Tern"])],
    targets: [
        cTern,
        .target(
            name: "Tern", dependencies: ["CTern"], path: "\(swift)/Sources/Tern",
            swiftSettings: [.enableExperimentalFeature("StrictConcurrency")]),
        .testTarget(name: "TernTests", dependencies: ["Tern", "CTern"], path: "\(swift)/Tests/TernTests"),
    ]
)
