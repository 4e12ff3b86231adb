"""What is fetched for phones: the release's APK, and Gradle's wrapper, each by its digest."""
