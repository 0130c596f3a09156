/* QuPath 0.4 or later: read the nuclei of every image of a project.

   Automate > Script editor: open this file, set FOLDER, then Run > Run for project.
   For image.svs it takes FOLDER/image.geojson or FOLDER/image.geojson.gz. */

def FOLDER = buildFilePath(PROJECT_BASE_DIR, "nuclei")

def name = getCurrentImageNameWithoutExtension()
def file = [".geojson", ".geojson.gz"].collect { new File(FOLDER, name + it) }.find { it.exists() }
if (file == null) {
    println "${name}: there is no ${name}.geojson in ${FOLDER}"
    return
}
removeObjects(getDetectionObjects(), false)  // what an earlier run read
importObjectsFromFile(file.getPath())
fireHierarchyUpdate()
println "${name}: ${getDetectionObjects().size()} nuclei from ${file.getName()}"
